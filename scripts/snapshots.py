"""Small results of each recipe, as they looked when they were last approved, and how to tell whether a new one looks the same.

After a change that should be seen: `python -m scripts.snapshots`, then look at the pictures in `tests/snapshots/` before they are committed.
"""

from pathlib import Path

import torch
from PIL import Image

from featviz import save
from featviz.media.images import to_tensor
from featviz.networks.cache import load
from featviz.recipes import presets
from featviz.recipes.activation_maps import ActivationMaps
from featviz.recipes.caricature import Caricature
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.deepdream_zoom import DeepDreamZoom
from featviz.recipes.evidence import Evidence
from featviz.recipes.feature_accentuation import FeatureAccentuation
from featviz.recipes.feature_visualization import FeatureVisualization
from featviz.recipes.recipe import Recipe
from featviz.recipes.reconstruction import ReconstructContent, ReconstructStyle
from featviz.recipes.style_transfer import StyleTransfer
from featviz.runtime.stream import stream

FOLDER = Path(__file__).parents[1] / "tests" / "snapshots"

TOLERANCE = 0.25
"""The largest `difference` at which two pictures count as equal. Measured: with other kernels of the processor, which round
differently, 0.0 to 0.23; with another number of threads, at most 0.11. A dream of 0.7 times the strength differs by more, and so does
a style transfer of 0.4 times the strength."""

LAYERS = ("block0", "block2", "block4")
"""Layers of EfficientNet-Lite0 at which two pictures are compared: strides of 2, 4 and 8 pixels."""

SIZE, STEPS = {"size": 96}, {"steps": 6}

SNAPSHOTS: dict[str, tuple[Recipe, dict[str, str]]] = {
    "deepdream": (DeepDream(**SIZE, octaves=2), {"image": "cat"}),
    "deepdream_efficientnet": (DeepDream(layer="efficientnet_lite0/block9", **SIZE, octaves=2), {"image": "mountain"}),
    "deepdream_zoom": (DeepDreamZoom(**SIZE, octaves=1, seconds=0.4, fps=10), {"image": "mountain"}),
    "style_transfer": (StyleTransfer(**SIZE, **STEPS), {"content": "cat", "style": "great_wave"}),
    "style_wasserstein": (StyleTransfer(**SIZE, **STEPS, statistic="wasserstein"), {"content": "cat", "style": "great_wave"}),
    "activation_maps": (ActivationMaps(**SIZE, count=2), {"image": "cat"}),
    "feature_visualization": (FeatureVisualization(size=64, steps=8), {}),
    "feature_accentuation": (FeatureAccentuation(size=64, steps=4), {"image": "cat"}),
    "caricature": (Caricature(size=64, steps=8), {"image": "cat"}),
    "evidence": (Evidence(count=2), {"image": "cat"}),
    "reconstruct_content": (ReconstructContent(**SIZE, steps=2), {"image": "cat"}),
    "reconstruct_style": (ReconstructStyle(**SIZE, steps=2), {"style": "great_wave"}),
}
"""File → recipe and pictures of `examples/`. Of a video, the last frame counts. The time lapse of layers is left out: it takes as
long as all others, and its dreams and maps are those of others."""


def made(recipe: Recipe, pictures: dict[str, str]) -> Image.Image:
    """Return the result of a recipe."""
    files = {role: presets.FOLDER / f"{name}.jpg" for role, name in pictures.items()}
    *_, last = stream(recipe, device="cpu", **files)
    return last.picture


@torch.no_grad()
def difference(picture: Image.Image, snapshot: Image.Image) -> float:
    """Return how different two pictures of one size look: ‖F − F*‖ / ‖F*‖ of feature maps, mean over `LAYERS`. 0 for equal ones.

    No recipe optimises EfficientNet-Lite0 at these layers but one dream, so that a change is judged by a network that did not make it.
    """
    ours, theirs = (
        load("efficientnet_lite0", "cpu").activations(to_tensor(one.convert("RGB")), LAYERS) for one in (picture, snapshot)
    )
    return sum(((ours[layer] - theirs[layer]).norm() / theirs[layer].norm()).item() for layer in LAYERS) / len(LAYERS)


if __name__ == "__main__":
    for name, case in SNAPSHOTS.items():
        save(made(*case), FOLDER / f"{name}.png")
