"""What a run tells of itself besides its picture: the distances that its layers still see, as bars."""

from collections.abc import Mapping
from html import escape

HEADING = "How far each layer still is from what it wants: the shorter the bar, the nearer."


def bars(measures: Mapping[str, float], hint: str = "") -> str:
    """Numbers of at least 0 as bars, under a heading and a hint. Half a bar is a distance of 1, that of a black picture."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt>"
        f'<dd><progress value="{value / (1 + value):.3f}" max="1" aria-label="{escape(name)}"></progress>'
        f"<span>{value:.2g}</span></dd></div>"
        for name, value in measures.items()
    )
    return f"<p>{HEADING} {escape(hint)}</p><dl>{rows}</dl>" if rows else ""
