"""Run small variants of a recipe and put them on one contact sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace

from PIL import Image

from featviz.media.images import Pictures
from featviz.media.saving import NOTE
from featviz.media.sheets import contact_sheet
from featviz.recipes import metadata
from featviz.recipes.recipe import Recipe, differing
from featviz.runtime.devices import Device, resolve
from featviz.runtime.memory import reserve
from featviz.runtime.scheduler import Waiting
from featviz.runtime.stream import Part, Preview, Previews, RunOptions, open_pictures, preview_frames, sizes_of


def try_out(
    recipe: Recipe,
    *,
    device: Device = "auto",
    every: float = math.inf,
    stopped: Callable[[], bool] | None = None,
    on_wait: Callable[[Waiting], object] | None = None,
    on_part: Callable[[Part], object] | None = None,
    **pictures: Pictures,
) -> Generator[tuple[Recipe, Preview], None, None]:
    """Run the small variants of a recipe, such as a dream at every layer, and yield each with its last preview.

    Where `every` is finite, earlier previews are yielded as well, paced as in `stream`. Takes and raises what `stream` does. The
    memory of the largest variant is reserved from the first to the last. Only the first variant goes before other runs.
    """
    opened, torch_device = open_pictures(recipe, pictures), resolve(device)
    with reserve(recipe, torch_device, sizes_of(opened), parts=type(recipe).variants) as budget:
        for number, variant in enumerate(recipe.variants()):
            options = RunOptions(every=every, stopped=stopped, on_wait=on_wait, on_part=on_part, new=number == 0)
            previews = preview_frames(variant, opened, torch_device, budget, options)
            with closing(previews):  # Before the memory is released.
                for preview in previews:
                    if preview.done or every < math.inf:
                        yield variant, preview


def on_one_sheet(recipe: Recipe, variants: Iterator[tuple[Recipe, Preview]]) -> Previews:
    """Draw what `try_out` yields for a recipe on one picture: all variants so far, each under the values that distinguish it."""
    cells: dict[str, Image.Image] = {}
    count = len(recipe.variants())
    for variant, preview in variants:
        cells[differing(variant)] = preview.picture
        picture = contact_sheet(list(cells.items()), columns=6, width=200)
        picture.info[NOTE] = metadata.note(recipe, whole=False)
        yield replace(
            preview,
            step=len(cells),
            steps=count,
            work=len(cells) / count,
            stage=differing(variant),
            picture=picture,
            is_video_frame=False,
        )
