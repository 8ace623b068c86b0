"""The table of recipes. Every surface is generated from this table and from the fields of the recipes."""

from featviz.media.images import Picture
from featviz.recipes import metadata
from featviz.recipes.ablation import Ablation
from featviz.recipes.activation_maps import ActivationMaps
from featviz.recipes.caricature import Caricature
from featviz.recipes.classification import Classification
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.deepdream_zoom import DeepDreamZoom
from featviz.recipes.evidence import Evidence
from featviz.recipes.feature_accentuation import FeatureAccentuation
from featviz.recipes.feature_visualization import FeatureVisualization
from featviz.recipes.layer_time_lapse import LayerTimeLapse
from featviz.recipes.recipe import Recipe
from featviz.recipes.reconstruction import ReconstructContent, ReconstructStyle
from featviz.recipes.style_transfer import StyleTransfer

EVERY = (
    DeepDream,
    DeepDreamZoom,
    StyleTransfer,
    ActivationMaps,
    Classification,
    Evidence,
    Ablation,
    LayerTimeLapse,
    FeatureVisualization,
    FeatureAccentuation,
    Caricature,
    ReconstructContent,
    ReconstructStyle,
)
"""All recipes, in the order of the page."""

RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in EVERY}
"""Name → recipe class, by the names of the command line and the API."""

TABS: dict[str, type[Recipe]] = {name: recipe for name, recipe in RECIPES.items() if recipe.has_tab}
"""Those that have a tab of the page."""


def recipe_of(file: Picture) -> Recipe:
    """Return the recipe in a picture or video that featviz made. Run on the same pictures, it gives the same result.

    Raises:
        InputError: the file does not exist or contains no recipe, or the recipe's network or objective is not available.
        MissingExtraError: the file is not a picture, and PyAV, which reads videos, is not installed.
    """
    return metadata.read(file, RECIPES).recipe
