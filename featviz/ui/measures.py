"""The distance of each layer during a run, as bars."""

from collections.abc import Mapping
from html import escape


def bars(measures: Mapping[str, float], heading: str) -> str:
    """Draw distances, each at least 0, as HTML bars under a heading. Half a bar is 1, the distance of black."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt>"
        f'<dd><progress value="{value / (1 + value):.3f}" max="1" aria-label="{escape(name)}"></progress>'
        f"<span>{value:.2g}</span></dd></div>"
        for name, value in measures.items()
    )
    return f"<p>{escape(heading)}</p><dl>{rows}</dl>" if rows else ""
