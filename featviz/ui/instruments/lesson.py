"""The lesson: seven steps on the visitor's picture, each with a sentence, a control and a picture that moves.

One component, drawn by `lesson.js`. Every number and picture is computed when it is first looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from featviz.errors import InputError
from featviz.media.images import on_white
from featviz.networks.table import FASTEST, NETWORKS
from featviz.recipes import presets
from featviz.recipes.activation_maps import ActivationMaps
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.recipe import Recipe
from featviz.recipes.reconstruction import ReconstructContent
from featviz.recipes.style_transfer import StyleTransfer
from featviz.runtime.memory import open_reserved
from featviz.runtime.stream import Preview
from featviz.ui import text
from featviz.ui.instruments.server_functions import instead, picture_of
from featviz.ui.runs import thumbnail
from featviz.ui.serving.admission import unqueued, unqueued_run
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.files import data_url

EXAMPLE, STYLE = (str(presets.FOLDER / name) for name in ("cat.jpg", "great_wave.jpg"))
"""The picture of a visitor who has chosen none, and the style of the last step."""

SIZE = 224
"""Longest side of the picture in most steps, in pixels."""

LAYERS = {name: tuple(f"{name}/{layer}" for layer in NETWORKS[name].layers) for name in ("vgg19", FASTEST)}
DEPTHS = tuple(f"vgg19/relu{depth}_1" for depth in range(1, 6))

DREAM = DeepDream(layer="vgg19/relu4_2", size=160, octaves=1, steps=6, strength=6, show_gradient=True)
"""Gradient images of VGG-19 show the shapes that a layer sees; those of EfficientNet are mostly grain."""

COMBINED = StyleTransfer(
    size=128, steps=10, statistic="gram", style_layers="relu1_1, relu2_1, relu3_1, relu4_1", content_layers="relu4_1"
)
"""Without the layers beyond relu4_1 it takes half as long, and looks about the same at this size."""

Figures = Mapping[str, Sequence[Image.Image | None]]
"""Caption → pictures of which one is shown at a time."""


@dataclass(frozen=True)
class Step:
    """A step of the lesson. Its texts have its name."""

    name: str
    draw: Callable[..., tuple[Figures, dict[str, Any]]]
    """(engine, file of the picture, value of the control) → figures, and what the browser computes with."""
    values: tuple = ("",)
    """The values of the control. With a single value, the control moves through the frames that were drawn."""
    first: int = 0
    """Index of the value at first."""


def kernel(engine: Engine, picture: str, value: int) -> tuple[Figures, dict[str, Any]]:
    """A pixel through one kernel to a map."""
    found = engine.kernel_response(ActivationMaps(layer="vgg19/relu1_1", size=64), value, image=picture)
    shown = {"picture": [found.image], "kernel": [found.kernel], "map": [found.map]}
    return shown, {"weights": found.weights, "bias": found.bias}


def layers(engine: Engine, picture: str, value: str) -> tuple[Figures, dict[str, Any]]:
    """The three strongest channels of a layer: their maps, what they look for, and the part of the picture that activates each most."""
    cells = engine.inspect_layer(ActivationMaps(layer=value, count=3, size=SIZE), image=picture).cells
    shown = {
        "active": [cell.picture for cell in cells],
        "looks": [thumbnail(cell.layer, cell.channel) for cell in cells],
        "part": [next(iter(cell.patches), None) for cell in cells],
    }
    return shown, {}


def gradient(engine: Engine, picture: str, value: str) -> tuple[Figures, dict[str, Any]]:
    """The picture, and its gradient when that of a layer is set equal to its activations."""
    with unqueued():  # Not counted as a run: it is one step, and the control has many values.
        (step,) = engine.run_steps(DREAM.replace(layer=value, steps=1, size=SIZE), image=picture)
    return {"picture": [small(picture)], "gradient": [step.gradient]}, {}


def dream(engine: Engine, picture: str, _: str) -> tuple[Figures, dict[str, Any]]:
    """The picture after each step of DeepDream, and the gradient that is added next."""
    steps = run(engine, DREAM, image=picture)
    return {"dream": [small(picture), *(step.picture for step in steps)], "gradient": [step.gradient for step in steps]}, {
        "plays": True
    }


def content(engine: Engine, picture: str, value: str) -> tuple[Figures, dict[str, Any]]:
    """A picture that is rebuilt from noise out of the activations of a layer."""
    steps = run(engine, ReconstructContent(layer=value, size=96, steps=5), image=picture)
    return {"picture": [small(picture)], "rebuilt": [step.picture for step in steps]}, {"plays": True}


def style(engine: Engine, picture: str, _: str) -> tuple[Figures, dict[str, Any]]:
    """The correlations of feature maps, and the two maps behind each."""
    found = engine.correlated_maps(ActivationMaps(layer="vgg19/relu3_1", count=8, size=SIZE), image=picture)
    shown = {"matrix": [found.matrix], "one": found.maps, "other": found.maps, "both": list(found.products.values())}
    return shown, {"channels": found.channels, "cosines": found.cosines}


def combined(engine: Engine, picture: str, _: str) -> tuple[Figures, dict[str, Any]]:
    """The picture with the correlations of the wave, step by step."""
    steps = run(engine, COMBINED, content=picture, style=STYLE)
    return {"combined": [small(picture), *(step.picture for step in steps)], "style": [small(STYLE)]}, {"plays": True}


STEPS = (
    Step("kernel", kernel, tuple(range(64))),
    Step("layers", layers, LAYERS[FASTEST], 7),
    Step("gradient", gradient, LAYERS["vgg19"], 9),
    Step("dream", dream),
    Step("content", content, DEPTHS, 3),
    Step("style", style),
    Step("combined", combined),
)


class Lesson:
    """The component, and the function that its script calls."""

    def __init__(self, engine: Engine):
        drawers = {step.name: step for step in STEPS}

        def lesson_step(sent: Any) -> dict:
            """Return what a step shows. `sent`: {"step", "value": index, "picture"}."""
            name, index = sent.get("step"), sent.get("value")
            step = drawers.get(name) if isinstance(name, str) else None
            if step is None:
                raise InputError(f"There is no such step; expected one of {', '.join(drawers)}.")
            if not (isinstance(index, int) and index in range(len(step.values))):
                raise InputError(f"The control of this step has the values 0 to {len(step.values) - 1}.")
            picture = picture_of(sent) if sent.get("picture") else EXAMPLE
            shown, computed = step.draw(engine, picture, step.values[index])
            figures = [{"name": name, "frames": list(map(data_url, pictures))} for name, pictures in shown.items()]
            return {"figures": figures, **computed}

        steps = [{"name": step.name, "values": [named(value) for value in step.values], "first": step.first} for step in STEPS]
        self.html = instead("lesson", lesson_step, steps=steps)

    def add_tab(self) -> None:
        """Add the text of the tab."""
        gr.Markdown(text.label("lesson_intro"), elem_classes="prose-block")


def run(engine: Engine, recipe: Recipe, **pictures: str) -> list[Preview]:
    """Run a recipe and return all steps. It counts as a run of the visitor."""
    with unqueued_run():
        return list(engine.run_steps(recipe, **pictures))


def small(picture: str) -> Image.Image:
    """Return a picture at the size of the steps."""
    opened = on_white(open_reserved(picture, "image", SIZE)).convert("RGB")
    opened.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
    return opened


def named(value: Any) -> str:
    """Return how a value of a control is shown: a layer without its network."""
    return str(value).rpartition("/")[2]
