"""Fixtures shared with the tests of the report."""

from tests.report.conftest import _write_run as _write_run
