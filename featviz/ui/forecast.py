"""The estimate of a run before it starts, and the largest size that fits this machine."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

import gradio as gr
from gradio.events import Dependency

from featviz import limits
from featviz.errors import FeatvizError, ImageError
from featviz.media.images import open_header
from featviz.recipes.recipe import Recipe, bounds, increment, largest_size
from featviz.runtime.estimate import Estimate, duration, gigabytes
from featviz.ui.controls import recipe_of
from featviz.ui.running import PAGE_EVENT, file_of

logger = logging.getLogger(__name__)

Estimator = Callable[[Recipe, tuple[int, int]], Estimate]


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
        self, pictures: Sequence[gr.Image], controls: dict[str, gr.components.Component], runs: Sequence[Dependency]
    ) -> None:
        """Connect the events.

        `pictures`: the first one, if the recipe needs any. `controls`: by field name. After each of `runs` the line is updated.
        """
        immediate = {"queue": False, **PAGE_EVENT}
        inputs = [*pictures, *controls.values()]
        refresh = {
            "fn": lambda *sent: self.update_line(sent[0] if pictures else None, sent[len(pictures) :]),
            "inputs": inputs,
            "outputs": [self.line, self.smaller, self.fitting],
            "preprocess": False,
        } | immediate
        gr.on([component.change for component in inputs], trigger_mode="always_last", **refresh)
        for run in runs:
            run.then(**refresh)
        sized = [controls[name] for name in ("size", "full_size") if name in controls]
        self.smaller.click(lambda size: [size, False][: len(sized)], self.fitting, sized, **immediate)

    def update_line(self, sent: Mapping[str, Any] | None, values: Sequence[Any]) -> dict:
        """Update the line and the button."""
        message, fitting = self.sentence(sent, values)
        offer = gr.update(visible=fitting is not None, value=f"Use size {fitting}")
        return {self.line: f"<p>{escape(message, quote=False)}</p>", self.smaller: offer, self.fitting: fitting}

    def sentence(self, sent: Mapping[str, Any] | None, values: Sequence[Any]) -> tuple[str, int | None]:
        """Return the text of the line, and the size to offer or None."""
        try:
            recipe = recipe_of(self.recipe, values)
            if sent is None and self.recipe.images:
                return "", None
            estimate, free = partial(self.estimate, size=size_of(sent)), self.memory_left()
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
            larger = size_for_short_side(recipe, size_of(sent))
            if larger is None or not fits(estimate(recipe.replace(size=larger)), free):
                return message, None
            return f"{message} The shorter side has fewer than {SHORT_SIDE} pixels; size {larger} is better.", larger
        reasons = [f"there are {gigabytes(free)} free"] if needed.bytes > free else []
        if needed.seconds > limits.RUN_SECONDS.value:
            reasons.append(f"that is over {duration(limits.RUN_SECONDS.value)}")
        fitting = largest_size(recipe, lambda smaller: fits(estimate(smaller), free))
        return f"{message[:-1]}; {' and '.join(reasons)}." + (f" Size {fitting} would fit." if fitting else ""), fitting


def size_of(sent: Mapping[str, Any] | None) -> tuple[int, int] | None:
    """Return (width, height) of an uploaded picture, None if there is none. Raises ImageError if it is not a picture."""
    if sent is None:
        return None
    with open_header(file_of(sent)) as picture:
        return picture.size


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
    return needed.bytes <= free and needed.seconds <= limits.RUN_SECONDS.value
