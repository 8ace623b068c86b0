"""A small animation from a picture to its result and back, to share."""

from html import escape
from pathlib import Path

import gradio as gr
from PIL import Image

from featviz.runtime.result_files import before
from featviz.ui.serving.files import address

SIDE, FRAMES, MILLISECONDS, HOLD = 480, 12, 60, 900
"""Longest side in pixels; frames from one picture to the other; how long one is shown, and how long the first and the last."""

MOST_BYTES = 2_000_000


def shown(file: str) -> str:
    """Return the animation of a result as HTML with a link to save it. Raises gr.Error if the result has no picture before it."""
    source = before(file)
    if source is None:
        raise gr.Error("There is no picture before this result to animate from.", print_exception=False)
    path = address(write(source, file))
    return (
        f'<p><img src="{escape(path)}" alt="The picture and the result in turn."></p>'
        f'<p><a href="{escape(path)}" download="featviz.webp">featviz.webp</a></p>'
    )


def write(source: str, result: str) -> str:
    """Write the animation beside the result and return its path. Its size is at most `MOST_BYTES`."""
    path = Path(result).with_name("featviz.webp")
    for side in (SIDE, SIDE // 2, SIDE // 4):
        with Image.open(source) as first, Image.open(result) as last:
            ends = [picture.convert("RGB") for picture in (first, last)]
        for picture in ends:
            picture.thumbnail((side, side))
        there = [Image.blend(ends[0], ends[1].resize(ends[0].size), i / FRAMES) for i in range(FRAMES + 1)]
        frames = [*there, *there[-2:0:-1]]
        durations = [HOLD if frame in (there[0], there[-1]) else MILLISECONDS for frame in frames]
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=70)
        if path.stat().st_size <= MOST_BYTES:
            break
    return str(path)
