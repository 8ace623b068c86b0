"""Endpoints beside the runs: the presets, an estimate, and the recipe stored in a file. All use the same form of a recipe."""

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from featviz import aliases
from featviz.errors import InputError, nearest, short
from featviz.media.images import Header, check_size
from featviz.recipes import metadata
from featviz.recipes.presets import FINISHES, STANDARD, Preset
from featviz.recipes.recipe import Recipe
from featviz.recipes.table import RECIPES
from featviz.ui.forecast import Estimator
from featviz.ui.serving.errors import error_sentences
from featviz.ui.serving.files import file_of


def publish(presets: list[Preset], estimator: Estimator) -> None:
    """Add the endpoints, which are MCP tools too. The functions' names, annotations and docstrings are published."""

    def estimate(recipe: str, fields: dict, width: int = 0, height: int = 0, others: dict | None = None, frames: int = 1) -> dict:
        """Estimate the time and the memory of a run on this machine, without running it.

        Args:
            recipe: Name of the recipe, e.g. 'deepdream'.
            fields: Its parameters by their names; those left out keep their defaults.
            width: Width of the first picture in pixels; 0 for a recipe without pictures.
            height: Height of the first picture in pixels; 0 for a recipe without pictures.
            others: Sizes of the other pictures, e.g. {"style": [640, 480], "mask": [640, 480]}. A required one that is left out
                counts as large as the first.
            frames: Number of frames of a video in place of the first picture.

        Returns:
            The seconds, the bytes of memory, and a sentence with both: {"seconds", "bytes", "words"}.
        """
        with error_sentences():
            asked = named_recipe(recipe, fields)
            first = dict.fromkeys([*asked.images][:1], (width, height))
            headers = {role: _header(role, size) for role, size in (first | _sizes(others)).items()}
            if frames < 1 or (frames > 1 and not asked.follows_video):
                raise InputError(f"frames is {frames}; expected at least 1, and 1 for {asked.title}.")
            needed = estimator(asked, headers, **({"count": frames} if frames > 1 else {}))
            return {"seconds": needed.seconds, "bytes": needed.bytes, "words": str(needed)}

    def recipe(file: str) -> dict:
        """Read the recipe that made a picture or a video from the file.

        Args:
            file: A PNG, JPEG, WebP, MP4 or GIF that featviz made.

        Returns:
            The recipe with its fields, and remarks where a new run would differ:
            {"recipe", "fields", "remarks"}.
        """
        with error_sentences():
            restored = metadata.read(_uploaded(file), RECIPES)
            return {**metadata.as_json(restored.recipe), "remarks": list(restored.remarks)}

    for address in addresses("presets"):
        gr.api(_presets_endpoint(presets, address["api_name"]), **address, queue=False)
    gr.api(estimate, api_name="estimate")
    file, found = gr.File(label="File", visible=False), gr.JSON(label="Recipe", visible=False)
    gr.on([], recipe, file, found, api_name="recipe", preprocess=False)


def named_recipe(name: str, fields: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a name and of fields. Raises InputError as `metadata.from_json`, and for a field that cannot be used."""
    restored = metadata.from_json({"recipe": name, "fields": fields}, RECIPES)
    if restored.remarks:
        raise InputError(restored.remarks[0])
    return restored.recipe


def _sizes(others: Any) -> dict[str, Any]:
    if not isinstance(others or {}, Mapping):
        raise InputError(f"others is {short(others)}; expected sizes by role, as in {{'style': [640, 480]}}.")
    return dict(others or {})


def _header(role: str, size: Any) -> Header:
    """Return the header of a picture of (width, height). Raises InputError for anything else."""
    try:
        width, height = map(int, size)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"The size of the {short(role)} is {short(size)}; expected its width and height in pixels.") from None
    check_size((width, height), short(role))
    return Header((width, height))


def _presets_endpoint(presets: list[Preset], name: str) -> Callable[..., list[dict]]:
    """The endpoint of the presets as a function of this name, which is the name of the tool."""

    def endpoint(finish: str = STANDARD) -> list[dict]:
        """List the presets: recipes with a name, ready to be called with their fields.

        Args:
            finish: Size and number of steps: 'Draft', 'Standard' or 'Fine'.

        Returns:
            For each preset its name, its title and its recipe: {"name", "title", "recipe", "fields"}.
        """
        with error_sentences():
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
        raise gr.Error("There is no file. Send a file that featviz made.", print_exception=False)
    return file_of(sent)
