"""The colours and settings that all figures of a report share."""

from typing import Any

COLOURS = {
    "ink": "#1f2328", "quiet": "#59636e", "line": "#e4e7eb", "paper": "#ffffff", "blue": "#0072b2", "orange": "#b84a00",
    "green": "#007a5a", "pink": "#a3507f", "yellow": "#8a6d00", "violet": "#3f4fa8",
}  # fmt: skip
"""All colours of the figure; ``page.css`` defines each for light and dark mode.

Those of the lines are Okabe and Ito's palette, safe for colour-blind readers, darkened until text in them is readable
on white.
"""

FIGURE_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "xner",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.parse_math": False,
    "text.color": COLOURS["ink"],
}
"""matplotlib's settings for every figure of a report."""

SVG_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
"""Leaves out the metadata that would make drawings of the same results differ."""
