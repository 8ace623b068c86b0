"""featviz: see what a convolutional network sees."""

from featviz.answers import ActivationMaps, Classify
from featviz.dream import DeepDream
from featviz.errors import FeatvizError
from featviz.looking import look
from featviz.media.images import save
from featviz.networks.table import NETWORKS, NetworkSpec
from featviz.networks.user_network import add_network, describe_network, remove_network
from featviz.recipes import RECIPES, recipe_of
from featviz.reconstruct import ReconstructContent, ReconstructStyle
from featviz.streaming import Preview, film, prepare, run, stream
from featviz.style import StyleTransfer
from featviz.version import __version__
from featviz.visualize import FeatureVisualization
from featviz.zoom import DreamZoom

__all__ = [
    "NETWORKS",
    "RECIPES",
    "ActivationMaps",
    "Classify",
    "DeepDream",
    "DreamZoom",
    "FeatureVisualization",
    "FeatvizError",
    "NetworkSpec",
    "Preview",
    "ReconstructContent",
    "ReconstructStyle",
    "StyleTransfer",
    "__version__",
    "add_network",
    "describe_network",
    "film",
    "look",
    "prepare",
    "recipe_of",
    "remove_network",
    "run",
    "save",
    "stream",
]
