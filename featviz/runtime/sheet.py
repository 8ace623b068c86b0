"""Run small variants of a recipe and put them on one contact sheet."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from featviz.media.images import (
    NOTE,
    Picture,
    contact_sheet,
)
from featviz.recipes import metadata
from featviz.recipes.recipe import Recipe, differing
from featviz.runtime.devices import Device, resolve
from featviz.runtime.memory import reserved

if TYPE_CHECKING:
    pass

from featviz.runtime.stream import Preview, Previews, _opened, _previews, _sizes


def try_out(
    recipe: Recipe, *, device: Device = "auto", every: float = math.inf, **pictures: Picture
) -> Generator[tuple[Recipe, Preview], None, None]:
    """Small versions of a run to choose among, such as a dream at every layer: each with its finished preview.

    Where `every` is less than infinity, also with previews on the way, as `stream` yields them. Raises what `stream` raises.
    The memory of the largest version is reserved from the first to the last.
    """
    opened, where = _opened(recipe, pictures), resolve(device)
    size, others = _sizes(recipe, opened)
    with reserved(recipe, size, where, parts=type(recipe).variants, others=others):
        for variant in recipe.variants():
            for preview in _previews(variant, opened, where, every):
                if preview.done or every < math.inf:
                    yield variant, preview


def on_one_sheet(recipe: Recipe, tried: Iterator[tuple[Recipe, Preview]]) -> Previews:
    """What `try_out` yields for a recipe, as one picture that fills up: every variant so far, under what sets it apart."""
    cells: dict[str, Image.Image] = {}
    count = len(recipe.variants())
    for variant, preview in tried:
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
