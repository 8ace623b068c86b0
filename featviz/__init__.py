"""featviz: see what a convolutional network sees."""

from typing import Any

from featviz import aliases
from featviz.errors import FeatvizError
from featviz.media.images import to_picture
from featviz.media.saving import save
from featviz.networks.table import NETWORKS, NetworkSpec
from featviz.networks.user_network import add_network, describe_network, remove_network
from featviz.optimise import objectives
from featviz.optimise.objectives import Objective
from featviz.optimise.parameterization import Phases, Pixels, Spectrum
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
from featviz.recipes.maximise import maximise
from featviz.recipes.reconstruction import ReconstructContent, ReconstructStyle
from featviz.recipes.style_transfer import StyleTransfer
from featviz.recipes.table import RECIPES, recipe_of
from featviz.runtime.film import film
from featviz.runtime.inspection import inspect_layer
from featviz.runtime.stream import Preview, prepare, run, stream
from featviz.version import __version__

__all__ = [
    "NETWORKS",
    "RECIPES",
    "Ablation",
    "ActivationMaps",
    "Caricature",
    "Classification",
    "DeepDream",
    "DeepDreamZoom",
    "Evidence",
    "FeatureAccentuation",
    "FeatureVisualization",
    "FeatvizError",
    "LayerTimeLapse",
    "NetworkSpec",
    "Objective",
    "Phases",
    "Pixels",
    "Preview",
    "ReconstructContent",
    "ReconstructStyle",
    "Spectrum",
    "StyleTransfer",
    "__version__",
    "add_network",
    "describe_network",
    "film",
    "inspect_layer",
    "maximise",
    "objectives",
    "prepare",
    "recipe_of",
    "remove_network",
    "run",
    "save",
    "stream",
    "to_picture",
]


def __getattr__(name: str) -> Any:
    """Return what an earlier public name stands for."""
    if name not in aliases.PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals()[aliases.PUBLIC[name]]
