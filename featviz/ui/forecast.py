"""The estimate of a run before it starts, and the largest size that fits this machine."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

import gradio as gr
from gradio.events import Dependency

from featviz.errors import FeatvizError, ImageError
from featviz.media.images import MASK, Header, read_header
from featviz.recipes.recipe import Recipe, bounds, increment, largest_size
from featviz.runtime.estimate import Estimate, duration, gigabytes
from featviz.runtime.lease import longest_run
from featviz.ui.controls import recipe_of
from featviz.ui.masks import LONGEST
from featviz.ui.running import PAGE_EVENT, file_of

logger = logging.getLogger(__name__)

Estimator = Callable[[Recipe, Mapping[str, Header]], Estimate]

PAINTED = "painted"
"""The key of the picture that is open for painting, among the pictures by role."""

SHORT_SIDE = 128
"""Pixels of the shorter side below which a layer has too few positions for a good result."""


class Forecast:
    """A line with the estimate of a run. If the chosen size does not fit, a button sets one that fits."""

    def __init__(self, recipe: type[Recipe], estimate: Estimator, memory_left: Callable[[], float]):
        self.recipe, self.estimate, self.memory_left = recipe, estimate, memory_left
        self.line = gr.HTML(elem_classes="forecast")
        self.smaller = gr.Button(visible=False, size="sm", elem_classes="quiet")
        self.fitting = gr.State()

    def events(
        self,
        pictures: Mapping[str, gr.components.Component],
        controls: dict[str, gr.components.Component],
        runs: Sequence[Dependency],
        painted: gr.State | None = None,
    ) -> None:
        """Connect the events.

        Args:
            pictures: all pictures of the recipe, by role.
            controls: by field name.
            runs: the line is updated after each of them.
            painted: the file of the picture that is open for painting a mask, None while none is.
        """
        immediate = {"queue": False, **PAGE_EVENT}
        files = {**pictures, PAINTED: painted} if painted else pictures
        inputs = [*files.values(), *controls.values()]
        refresh = {
            "fn": lambda *sent: self.update_line(dict(zip(files, sent, strict=False)), sent[len(files) :]),
            "inputs": inputs,
            "outputs": [self.line, self.smaller, self.fitting],
            "preprocess": False,
        } | immediate
        gr.on([component.change for component in inputs], trigger_mode="always_last", **refresh)
        for run in runs:
            run.then(**refresh)
        sized = [controls[name] for name in ("size", "full_size") if name in controls]
        self.smaller.click(lambda size: [size, False][: len(sized)], self.fitting, sized, **immediate)

    def update_line(self, sent: Mapping[str, Any], values: Sequence[Any]) -> dict:
        """Update the line and the button. `sent` are the pictures by role, as the page sends them."""
        message, fitting = self.sentence(sent, values)
        offer = gr.update(visible=fitting is not None, value=f"Use size {fitting}")
        return {self.line: f"<p>{escape(message, quote=False)}</p>", self.smaller: offer, self.fitting: fitting}

    def sentence(self, sent: Mapping[str, Any], values: Sequence[Any]) -> tuple[str, int | None]:
        """Return the text of the line, and the size to offer or None."""
        try:
            recipe = recipe_of(self.recipe, values)
            pictures, free = headers(sent), self.memory_left()
            first = next((pictures.get(role) for role in recipe.images), None)
            if first is None and recipe.images:
                return "", None
            estimate = partial(self.estimate, pictures=pictures)
            needed = estimate(recipe)
        except ImageError:
            return "", None  # The run reports it.
        except FeatvizError as error:
            return str(error), None
        except Exception:
            logger.exception("No estimate.")
            return "", None
        message = str(needed)
        if fits(needed, free):
            larger = size_for_short_side(recipe, first and first.size)
            if larger is None or not fits(estimate(recipe.replace(size=larger)), free):
                return message, None
            return f"{message} The shorter side has fewer than {SHORT_SIDE} pixels; size {larger} is better.", larger
        reasons = [f"there are {gigabytes(free)} free"] if min(needed.bytes, needed.least_bytes) > free else []
        if needed.seconds > longest_run():
            reasons.append(f"that is over {duration(longest_run())}")
        fitting = largest_size(recipe, lambda smaller: fits(estimate(smaller), free))
        return f"{message[:-1]}; {' and '.join(reasons)}." + (f" Size {fitting} would fit." if fitting else ""), fitting


def headers(sent: Mapping[str, Any]) -> dict[str, Header]:
    """Return the headers of uploaded pictures by role. Raises ImageError if one is not a picture.

    While a picture is open for painting, the mask that may be painted on it counts.
    """
    files = {role: file_of(each) for role, each in sent.items() if each is not None and role != PAINTED}
    found = {role: read_header(file, role) for role, file in files.items()}
    if sent.get(PAINTED) is not None and MASK not in found:
        found[MASK] = Header((LONGEST, LONGEST))
    return found


def size_for_short_side(recipe: Recipe, size: tuple[int, int] | None) -> int | None:
    """Return the size at which the shorter side of the result has `SHORT_SIDE` pixels, None if it has as many already.

    `size`: (width, height) of the first picture. No more than the picture and the field allow.
    """
    if size is None or "size" not in type(recipe).model_fields or getattr(recipe, "full_size", False):
        return None
    field = type(recipe).model_fields["size"]
    step, longest = int(increment(field)), max(size)
    needed = step * math.ceil(min(SHORT_SIDE, min(size)) * longest / min(size) / step)
    larger = int(min(needed, bounds(field)[1] or needed))
    return larger if larger > recipe.size and recipe.size * min(size) < SHORT_SIDE * longest else None


def fits(needed: Estimate, free: float) -> bool:
    """Whether a run stays within the free memory and the time limit."""
    return min(needed.bytes, needed.least_bytes) <= free and needed.seconds <= longest_run()
