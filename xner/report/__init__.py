"""From what the stages left behind to what a reader needs: statistics, errors, a table, the curve and a page.

It reads a run's folder alone and imports neither torch nor any data, so that a report can be made again anywhere.
"""

from xner.report.build import FILES, write_report
from xner.report.runs import load_run

__all__ = ["FILES", "load_run", "write_report"]
