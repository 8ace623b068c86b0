"""Find the natural patches of the atlas: what every channel of the bundled networks responds to most in licensed pictures.

Part of `make atlas`; half a minute of one core. It copies the pictures small, so that the patches need no other file, and writes
for each layer where its channels respond most: one forward pass for each picture and network.
"""

import json
from pathlib import Path

import torch
from PIL import Image

from featviz.media.images import open_picture, to_tensor
from featviz.networks.architectures import Classifier
from featviz.networks.cache import load
from featviz.networks.network import Network
from featviz.networks.table import BUNDLED
from featviz.optimise.scaling import size_of
from featviz.recipes import presets
from featviz.recipes.activation_maps import MIN_PATCH_SIDE, PATCHES, corner
from featviz.runtime.atlas import FOLDER

SOURCES = Path(__file__).parents[1] / "benchmarks" / "pictures"
"""Pictures beside those of the examples, with a table of their licences."""

LONGEST = 320
"""Longest side at which the networks see the pictures, in pixels."""

MAX_PATCH_SIDE = 112
"""The most pixels of the side of a patch. Receptive fields of deep layers are larger than the pictures, but their middle counts most."""

CLASSES, CHANNELS = 5, 8
"""Classes of a channel that goes into the classifier, and channels of a class."""


def copy_pictures() -> list[Path]:
    """Write small copies of all pictures, and the licences of those that are no examples. Return the files."""
    folder = FOLDER / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for source in sorted([*presets.FOLDER.glob("*.jpg"), *SOURCES.glob("*.jpg")], key=lambda source: source.name):
        picture = open_picture(source).convert("RGB")
        picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        files.append(folder / f"{source.stem}.webp")
        picture.save(files[-1], quality=80, method=6)
    table = [line for line in (SOURCES / "SOURCES.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    examples = ", ".join(f"`{path.stem}`" for path in sorted(presets.FOLDER.glob("*.jpg")))
    heading = "# The pictures in this folder\n\nSmall copies. Each may be redistributed with this credit.\n"
    lines = [heading, *(line.replace(".jpg", ".webp") for line in table), f"\nThose of {examples}: `examples/SOURCES.md`.\n"]
    (folder / "SOURCES.md").write_text("\n".join(lines), encoding="utf-8")
    return files


@torch.no_grad()
def find(network: Network, files: list[Path]) -> dict[str, list[list[list[tuple[int, int, int, float]]]]]:
    """Return layer → channel → picture → [picture, left, top, activation] of its highest activation, not yet in order."""
    found: dict = {layer: [] for layer in network.spec.layers}
    for index, file in enumerate(files):
        image = to_tensor(Image.open(file), network.device)
        for layer, (activations,) in network.activations(image, network.spec.layers).items():
            side, (height, width) = patch_side(network, layer), size_of(activations)
            values, places = activations.flatten(1).max(1)
            corners = [corner(divmod(place, width), (height, width), size_of(image), side) for place in places.tolist()]
            found[layer].append([(index, left, top, value) for (top, left), value in zip(corners, values.tolist(), strict=True)])
        print(network.spec.title, file.stem, flush=True)
    return {layer: list(map(list, zip(*pictures, strict=True))) for layer, pictures in found.items()}


def patch_side(network: Network, layer: str) -> int:
    """Return the side of a layer's patches in pixels: that of the receptive field, within limits."""
    return int(max(MIN_PATCH_SIDE, min(*network.receptive_field(layer).field, MAX_PATCH_SIDE)))


def classifier_weights(network: Network, layer: str) -> dict[str, list[list[int]]]:
    """Return the "classes" that weigh most for each channel of a layer, and the "channels" that weigh most for each class.

    Empty lists if the layer does not go into the classifier.
    """
    classifier = network.spec.classifier
    if classifier is None or layer != list(network.spec.layers)[-1]:
        return {"classes": [], "channels": []}
    pooling_and_linear = network.module.get_submodule(classifier)
    assert isinstance(pooling_and_linear, Classifier)
    weights = pooling_and_linear[1].weight.float().flatten(1)  # (classes, channels)
    return {
        "classes": weights.topk(CLASSES, dim=0).indices.T.tolist(),
        "channels": weights.topk(CHANNELS, dim=1).indices.tolist(),
    }


if __name__ == "__main__":
    files = copy_pictures()
    (FOLDER / "patches").mkdir(exist_ok=True)
    for name in BUNDLED:
        network = load(name)
        for layer, channels in find(network, files).items():
            strongest = [sorted(channel, key=lambda patch: -patch[3])[:PATCHES] for channel in channels]
            data = {
                "layer": f"{name}/{layer}",
                "side": patch_side(network, layer),
                "pictures": [file.stem for file in files],
                "patches": [[[*place, float(f"{value:.4g}")] for *place, value in channel if value > 0] for channel in strongest],
            } | classifier_weights(network, layer)
            text = json.dumps(data, separators=(",", ":"))
            (FOLDER / "patches" / f"{name}_{layer}.json").write_text(text + "\n", encoding="utf-8")
