"""featviz: see what a convolutional network sees."""

from featviz.dream import DeepDream
from featviz.errors import FeatvizError
from featviz.networks import NETWORKS
from featviz.stream import RECIPES, Preview, run, stream
from featviz.style import StyleTransfer

__version__ = "0.1.0"

__all__ = ["NETWORKS", "RECIPES", "DeepDream", "FeatvizError", "Preview", "StyleTransfer", "run", "stream"]
