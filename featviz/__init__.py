"""featviz: see what a convolutional network sees."""

from featviz.dream import DeepDream
from featviz.errors import FeatvizError
from featviz.images import save
from featviz.networks import NETWORKS
from featviz.stream import RECIPES, Preview, film, prepare, recipe_of, run, stream
from featviz.style import StyleTransfer
from featviz.version import __version__
from featviz.zoom import DreamZoom

__all__ = [
    "NETWORKS",
    "RECIPES",
    "DeepDream",
    "DreamZoom",
    "FeatvizError",
    "Preview",
    "StyleTransfer",
    "__version__",
    "film",
    "prepare",
    "recipe_of",
    "run",
    "save",
    "stream",
]
