"""The recipes, one row each. Every surface is built from this table and from their fields."""

from featviz.media.images import Picture
from featviz.recipes import metadata
from featviz.recipes.activation_maps import ActivationMaps
from featviz.recipes.classification import Classification
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.deepdream_zoom import DeepDreamZoom
from featviz.recipes.feature_visualization import FeatureVisualization
from featviz.recipes.recipe import Recipe
from featviz.recipes.reconstruction import ReconstructContent, ReconstructStyle
from featviz.recipes.style_transfer import StyleTransfer

EVERY = (
    DeepDream,
    DeepDreamZoom,
    StyleTransfer,
    ActivationMaps,
    Classification,
    FeatureVisualization,
    ReconstructContent,
    ReconstructStyle,
)
"""In the order of the page."""

RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in EVERY}
"""Name → recipe, as the command line and the API call it."""


def recipe_of(file: Picture) -> Recipe:
    """The recipe in a picture or a video that featviz made. Run on the same pictures, it makes the same again.

    Raises:
        InputError: there is no such file, or no recipe in it.
    """
    return metadata.read(file, RECIPES).recipe
