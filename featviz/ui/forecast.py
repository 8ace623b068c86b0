"""Before a run: what it is going to take, and the largest size that this machine can be asked for."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

import gradio as gr
from gradio.events import Dependency

from featviz import limits
from featviz.errors import FeatvizError, ImageError
from featviz.media.images import open_header
from featviz.recipes.recipe import Recipe, largest_size
from featviz.runtime.estimate import Estimate, duration, gigabytes
from featviz.ui.controls import recipe_of
from featviz.ui.running import BEHIND_THE_PAGE, file_of

logger = logging.getLogger(__name__)

Estimator = Callable[[Recipe, tuple[int, int]], Estimate]


class Forecast:
    """A quiet line beside the button that starts a run; where that would be too much, a button that makes it less."""

    def __init__(self, recipe: type[Recipe], estimate: Estimator, memory_left: Callable[[], float]):
        self.recipe, self.estimate, self.memory_left = recipe, estimate, memory_left
        self.line = gr.HTML(elem_classes="forecast")
        self.smaller = gr.Button(visible=False, size="sm", elem_classes="quiet")
        self.fitting = gr.State()

    def events(
        self, pictures: Sequence[gr.Image], controls: dict[str, gr.components.Component], runs: Sequence[Dependency]
    ) -> None:
        """`pictures`: the first one, where the recipe needs any. `controls`: its own, by the names of their fields. `runs`: each tells more of this machine's speed."""
        at_once = {"queue": False, **BEHIND_THE_PAGE}
        inputs = [*pictures, *controls.values()]
        foretell = {
            "fn": lambda *sent: self.foretold(sent[0] if pictures else None, sent[len(pictures) :]),
            "inputs": inputs,
            "outputs": [self.line, self.smaller, self.fitting],
            "preprocess": False,
        } | at_once
        gr.on([component.change for component in inputs], trigger_mode="always_last", **foretell)
        for run in runs:
            run.then(**foretell)
        sized = [controls[name] for name in ("size", "full_size") if name in controls]
        self.smaller.click(lambda size: [size, False][: len(sized)], self.fitting, sized, **at_once)

    def foretold(self, sent: Mapping[str, Any] | None, values: Sequence[Any]) -> dict:
        """What the page says of a run with these settings."""
        said, fitting = self.sentence(sent, values)
        offer = gr.update(visible=fitting is not None, value=f"Use size {fitting}")
        return {self.line: f"<p>{escape(said, quote=False)}</p>", self.smaller: offer, self.fitting: fitting}

    def sentence(self, sent: Mapping[str, Any] | None, values: Sequence[Any]) -> tuple[str, int | None]:
        """What is said, and the largest size that fits, where the one that is set does not."""
        try:
            recipe = recipe_of(self.recipe, values)
            if sent is None and self.recipe.images:
                return "", None
            estimate, free = partial(self.estimate, size=size_of(sent)), self.memory_left()
            needed = estimate(recipe)
        except ImageError:
            return "", None  # It is said when a run is asked for.
        except FeatvizError as error:
            return str(error), None
        except Exception:
            logger.exception("No estimate.")
            return "", None
        said = str(needed)
        if fits(needed, free):
            return said, None
        reasons = [f"there are {gigabytes(free)} free"] if needed.bytes > free else []
        if needed.seconds > limits.RUN_SECONDS.value:
            reasons.append(f"that is over {duration(limits.RUN_SECONDS.value)}")
        fitting = largest_size(recipe, lambda smaller: fits(estimate(smaller), free))
        return f"{said[:-1]}; {' and '.join(reasons)}." + (f" Size {fitting} would fit." if fitting else ""), fitting


def size_of(sent: Mapping[str, Any] | None) -> tuple[int, int] | None:
    """(width, height) of a picture that was sent, if one was. Raises ImageError where it is none."""
    if sent is None:
        return None
    with open_header(file_of(sent)) as picture:
        return picture.size


def fits(needed: Estimate, free: float) -> bool:
    return needed.bytes <= free and needed.seconds <= limits.RUN_SECONDS.value
