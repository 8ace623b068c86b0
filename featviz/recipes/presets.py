"""Starting points of the page: examples (recipes with pictures), presets (recipes for any picture), and levels of finish."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from featviz.recipes.recipe import Recipe, bounds
from featviz.recipes.table import RECIPES


def _examples() -> Path:
    """Return the folder of examples: inside an installed package, beside the package in the repository."""
    package = Path(__file__).parents[1]
    installed = package / "examples"
    return installed if installed.is_dir() else package.parent / "examples"


FOLDER = _examples()


@dataclass(frozen=True)
class Example:
    """A recipe with pictures that suit it."""

    title: str
    recipe: Recipe
    pictures: Mapping[str, Path]
    """Role → file."""


@dataclass(frozen=True)
class Preset:
    """A recipe for any picture, with a thumbnail of its result."""

    title: str
    recipe: Recipe
    thumbnail: Path

    @property
    def name(self) -> str:
        """The name for programs, from the file name of the thumbnail: `5_eyes.jpg` → "eyes"."""
        return self.thumbnail.stem.partition("_")[2]


@dataclass(frozen=True)
class Finish:
    """A level of finish: the longest side in pixels, None for the recipe's own, and a factor for its steps."""

    title: str
    size: int | None = None
    steps: float = 1

    def of(self, recipe: Recipe) -> dict[str, int]:
        """Return the fields `size` and `steps` for a recipe. Steps are rounded, and clamped to the field's range."""
        low, high = bounds(type(recipe).model_fields["steps"])
        own = dict(recipe)
        return {"size": self.size or own["size"], "steps": int(min(max(round(own["steps"] * self.steps), low), high))}


FINISHES = {finish.title: finish for finish in (Finish("Draft", 256, 0.5), Finish("Standard"), Finish("Fine", 1024, 1.5))}
STANDARD = "Standard"


def read(path: Path) -> Example:
    """Read an example from JSON: {"title", "recipe": name, "pictures": {role: file}, "fields": {name: value}}.

    Files of pictures are relative to the folder of the JSON file.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    pictures = {role: path.parent / file for role, file in data["pictures"].items()}
    return Example(data["title"], RECIPES[data["recipe"]](**data["fields"]), pictures)


def read_preset(path: Path) -> Preset:
    """Read a preset from JSON: {"title", "recipe": name, "fields": {name: value}}.

    Its thumbnail is the .jpg file of the same name in the same folder.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    return Preset(data["title"], RECIPES[data["recipe"]](**data["fields"]), path.with_suffix(".jpg"))


def read_examples(folder: Path = FOLDER) -> list[Example]:
    """Read all examples in a folder, in the order of their file names."""
    return [read(path) for path in sorted(folder.glob("*.json"))]


def read_presets(folder: Path = FOLDER) -> list[Preset]:
    """Read all presets in the subfolder `presets` of a folder, in the order of their file names."""
    return [read_preset(path) for path in sorted((folder / "presets").glob("*.json"))]


def finishable(recipe: type[Recipe]) -> bool:
    """Return whether every level of finish applies to a recipe: it has `steps`, and `size` accepts the size of each level.

    The recipe must have a field `size`.
    """
    _, most = bounds(recipe.model_fields["size"])
    return "steps" in recipe.model_fields and all(most is None or (finish.size or 0) <= most for finish in FINISHES.values())
