"""The recipes, one row each. Every surface is built from this table and from their fields."""

from featviz import provenance
from featviz.answers import ActivationMaps, Classify
from featviz.dream import DeepDream
from featviz.media.images import Picture
from featviz.recipe import Recipe
from featviz.reconstruct import ReconstructContent, ReconstructStyle
from featviz.style import StyleTransfer
from featviz.visualize import FeatureVisualization
from featviz.zoom import DreamZoom

EVERY = (
    DeepDream,
    DreamZoom,
    StyleTransfer,
    ActivationMaps,
    Classify,
    FeatureVisualization,
    ReconstructContent,
    ReconstructStyle,
)
"""In the order of the page."""

RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in EVERY}


def recipe_of(file: Picture) -> Recipe:
    """The recipe in a picture or a video that featviz made. Run on the same pictures, it makes the same again.

    Raises:
        InputError: there is no such file, or no recipe in it.
    """
    return provenance.read(file, RECIPES).recipe
