"""What programs can ask for beside a run: the presets, an estimate, and the recipe in a file. All speak of a recipe alike."""

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from featviz import aliases
from featviz.errors import InputError, nearest, short
from featviz.media.images import SMALLEST_SIDE
from featviz.recipes import metadata
from featviz.recipes.presets import FINISHES, STANDARD, Preset
from featviz.recipes.table import RECIPES
from featviz.ui.forecast import Estimator
from featviz.ui.running import file_of, sentences


def publish(presets: list[Preset], estimator: Estimator) -> None:
    """The endpoints, which are MCP tools as well: the functions' names, annotations and docstrings are what is published."""

    def estimate(recipe: str, fields: dict, width: int = 0, height: int = 0) -> dict:
        """What a run would take on this machine, without running it.

        Args:
            recipe: Name of the recipe, e.g. 'deepdream'.
            fields: Its parameters by their names; those left out keep their defaults.
            width: Of the first picture, in pixels; 0 for a recipe that needs none.
            height: Of the first picture, in pixels; 0 for a recipe that needs none.

        Returns:
            The seconds it takes, the bytes of memory, and both in words: {"seconds", "bytes", "words"}.
        """
        with sentences():
            restored = metadata.from_json({"recipe": recipe, "fields": fields}, RECIPES)
            if restored.remarks:
                raise InputError(restored.remarks[0])
            if restored.recipe.images and min(width, height) < SMALLEST_SIDE:
                raise InputError(f"The first picture is {width}×{height} pixels; each side needs at least {SMALLEST_SIDE}.")
            needed = estimator(restored.recipe, (width, height) if restored.recipe.images else None)
            return {"seconds": needed.seconds, "bytes": needed.bytes, "words": str(needed)}

    def recipe(file: str) -> dict:
        """The recipe by which a picture or a video was made, out of the file itself.

        Args:
            file: A PNG, JPEG, WebP, MP4 or GIF that featviz made.

        Returns:
            The recipe, to be called with its fields, and what is known against the same result:
            {"recipe", "fields", "remarks"}.
        """
        with sentences():
            restored = metadata.read(_uploaded(file), RECIPES)
            return {**metadata.as_json(restored.recipe), "remarks": list(restored.remarks)}

    for address in addresses("presets"):
        gr.api(_presets_endpoint(presets, address["api_name"]), **address, queue=False)
    gr.api(estimate, api_name="estimate")
    gr.Button(visible=False).click(
        recipe, gr.File(label="File", visible=False), gr.JSON(label="Recipe", visible=False), api_name="recipe", preprocess=False,
    )  # fmt: skip


def _presets_endpoint(presets: list[Preset], name: str) -> Callable[..., list[dict]]:
    """The endpoint of the presets as a function of this name, which is the name of the tool."""

    def endpoint(finish: str = STANDARD) -> list[dict]:
        """Named presets to start from, each a recipe to call with its fields.

        Args:
            finish: How finely they are worked out: 'Draft', 'Standard' or 'Fine'.

        Returns:
            For each preset its name and title, and its recipe: {"name", "title", "recipe", "fields"}.
        """
        with sentences():
            if finish not in FINISHES:
                raise InputError(f"There is no finish '{short(finish)}'; {nearest(finish, list(FINISHES))}")
        finished = (preset.recipe.replace(**FINISHES[finish].of(preset.recipe)) for preset in presets)
        return [
            {"name": preset.name, "title": preset.title, **metadata.as_json(recipe)}
            for preset, recipe in zip(presets, finished, strict=True)
        ]

    endpoint.__name__ = name
    return endpoint


def addresses(name: str) -> list[dict[str, str]]:
    """Return options of `gr.api`, one set an address: the endpoint's name, then its earlier names, which the page does not list."""
    return [
        {"api_name": name},
        *({"api_name": alias, "api_visibility": "undocumented"} for alias in aliases.earlier(name, aliases.ENDPOINTS)),
    ]


def _uploaded(sent: Mapping[str, Any] | None) -> str:
    if sent is None:
        raise gr.Error("There is no file yet: send one that featviz made.", print_exception=False)
    return file_of(sent)
