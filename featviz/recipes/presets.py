"""Where to start from: pictures with the recipes that suit them, looks, and how finely a recipe is worked out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from featviz.recipes.recipe import Recipe, bounds
from featviz.recipes.table import RECIPES


def _examples() -> Path:
    """The folder of examples: inside an installed package, or beside the package in the repository."""
    package = Path(__file__).parents[1]
    installed = package / "examples"
    return installed if installed.is_dir() else package.parent / "examples"


FOLDER = _examples()


@dataclass(frozen=True)
class Example:
    """A recipe and the pictures it is shown with."""

    title: str
    recipe: Recipe
    pictures: Mapping[str, Path]


@dataclass(frozen=True)
class Preset:
    """A recipe for any picture, and what it makes of the example picture."""

    title: str
    recipe: Recipe
    thumbnail: Path

    @property
    def name(self) -> str:
        """As programs call it: `5_eyes.jpg` → "eyes"."""
        return self.thumbnail.stem.partition("_")[2]


@dataclass(frozen=True)
class Finish:
    """How finely a recipe is worked out: its longest side, where that is not its own, and its steps times so much."""

    title: str
    size: int | None = None
    steps: float = 1

    def of(self, recipe: Recipe) -> dict[str, int]:
        """The fields it sets."""
        low, high = bounds(type(recipe).model_fields["steps"])
        own = dict(recipe)
        return {"size": self.size or own["size"], "steps": int(min(max(round(own["steps"] * self.steps), low), high))}


FINISHES = {finish.title: finish for finish in (Finish("Draft", 256), Finish("Standard"), Finish("Fine", 768, 1.5))}
STANDARD = "Standard"


def read(path: Path) -> Example:
    """An example out of its JSON: {"title", "recipe": name, "pictures": {role: file}, "fields": {name: value}}."""
    data = json.loads(path.read_text(encoding="utf-8"))
    pictures = {role: path.parent / file for role, file in data["pictures"].items()}
    return Example(data["title"], RECIPES[data["recipe"]](**data["fields"]), pictures)


def read_preset(path: Path) -> Preset:
    """A look out of its JSON: {"title", "recipe": name, "fields": {name: value}}; its thumbnail stands beside it."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Preset(data["title"], RECIPES[data["recipe"]](**data["fields"]), path.with_suffix(".jpg"))


def read_examples(folder: Path = FOLDER) -> list[Example]:
    """Every example of a folder, in the order of their file names."""
    return [read(path) for path in sorted(folder.glob("*.json"))]


def read_presets(folder: Path = FOLDER) -> list[Preset]:
    """Every look in the subfolder `presets`, in the order of their file names."""
    return [read_preset(path) for path in sorted((folder / "presets").glob("*.json"))]


def finishable(recipe: type[Recipe]) -> bool:
    """Whether a recipe can be worked out coarsely or finely: it has steps, and every size there is."""
    _, most = bounds(recipe.model_fields["size"])
    return "steps" in recipe.model_fields and all(most is None or (finish.size or 0) <= most for finish in FINISHES.values())
