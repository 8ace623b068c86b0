"""The distance of each layer during a run, as bars."""

from collections.abc import Mapping
from html import escape

HEADING = "How far each layer is from its target. A shorter bar is nearer."


def bars(measures: Mapping[str, float], hint: str = "") -> str:
    """Draw distances, each at least 0, as HTML bars under a heading and a hint. Half a bar is 1, the distance of black."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt>"
        f'<dd><progress value="{value / (1 + value):.3f}" max="1" aria-label="{escape(name)}"></progress>'
        f"<span>{value:.2g}</span></dd></div>"
        for name, value in measures.items()
    )
    return f"<p>{HEADING} {escape(hint)}</p><dl>{rows}</dl>" if rows else ""
