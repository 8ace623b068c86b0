"""featviz: see what a convolutional network sees."""

from featviz.dream import DeepDream
from featviz.errors import FeatvizError
from featviz.networks import NETWORKS
from featviz.stream import RECIPES, Preview, film, prepare, run, stream
from featviz.style import StyleTransfer
from featviz.zoom import DreamZoom

__version__ = "0.1.0"

__all__ = [
    "NETWORKS",
    "RECIPES",
    "DeepDream",
    "DreamZoom",
    "FeatvizError",
    "Preview",
    "StyleTransfer",
    "film",
    "prepare",
    "run",
    "stream",
]
