"""The atlas: what every channel of the bundled networks responds to most, computed in advance by `make atlas`.

Optimised pictures (`scripts/atlas.py`): each layer that has them is a sheet, a picture of thumbnails in rows, and a JSON file of
the same name that records the layer, the recipe of the thumbnails and the highest activation of each channel on its own thumbnail.

Patches of natural pictures (`scripts/patches.py`), for every layer: a JSON file in `patches/` that says where in the pictures of
`pictures/` each channel responds most. A patch is cut from them when it is needed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from featviz.networks.table import BUNDLED, NETWORKS, class_names, split
from featviz.recipes import presets

FOLDER = presets.FOLDER / "atlas"

COLUMNS = 16
"""Thumbnails in a row of a sheet."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A square of a picture of the atlas that a channel responds to."""

    file: Path
    """The picture."""
    left: int
    top: int
    side: int
    """In pixels of the picture."""
    activation: float
    """The activation in the middle of the patch, the highest of this channel in the picture."""

    def picture(self) -> Image.Image:
        """Cut it out."""
        return opened(self.file).crop((self.left, self.top, self.left + self.side, self.top + self.side))


@dataclass(frozen=True)
class Patches:
    """The patches of natural pictures that the channels of one layer respond to most."""

    layer: str
    """Its address, e.g. `vgg19/relu3_1`."""
    channels: tuple[tuple[Patch, ...], ...]
    """For each channel the strongest patches, each of another picture, in descending order; none if it responds to no picture."""
    classes: tuple[tuple[int, ...], ...]
    """For each channel the classes for which its weights in the classifier are greatest, in descending order. Only of a layer that
    goes into a linear classifier through global pooling; otherwise empty, since a channel of another layer stands for no class."""
    class_channels: tuple[tuple[int, ...], ...]
    """For each class the channels whose weights for it are greatest, in descending order; empty as `classes` is."""


@dataclass(frozen=True)
class Sheet:
    """The thumbnails of one layer."""

    layer: str
    """Its address, e.g. `vgg19/relu3_1`."""
    fields: Mapping[str, Any]
    """Fields of the recipe `feature_visualization` that each thumbnail was made with, except the channel."""
    peaks: tuple[float, ...]
    """The highest activation of each channel on its thumbnail."""
    file: Path

    @property
    def picture(self) -> Image.Image:
        """All thumbnails, `COLUMNS` in a row."""
        return _opened_sheet(self.file)

    def thumbnail(self, channel: int) -> Image.Image:
        """Return the optimised picture of a channel. Raises IndexError where there is no such channel."""
        if not 0 <= channel < len(self.peaks):
            raise IndexError(f"{self.layer} has no channel {channel}.")
        side, (row, column) = self.fields["size"], divmod(channel, COLUMNS)
        return self.picture.crop((column * side, row * side, (column + 1) * side, (row + 1) * side))


def read_sheet(path: Path) -> Sheet:
    """Read a sheet from its JSON file: {"layer", "fields": {name: value}, "peaks": [number]}."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Sheet(data["layer"], data["fields"], tuple(data["peaks"]), path.with_suffix(".webp"))


@cache
def sheets() -> dict[str, Sheet]:
    """Return all sheets by the addresses of their layers."""
    return {sheet.layer: sheet for sheet in map(read_sheet, sorted(FOLDER.glob("*.json")))}


@cache
def patches(layer: str) -> Patches | None:
    """Return the patches of a layer by its address; None for a layer that the atlas does not have.

    They are read from {"layer", "side", "pictures": [name], "patches": [[[picture, left, top, activation]]], "classes": [[class]],
    "channels": [[channel]]}.
    """
    path = FOLDER / "patches" / f"{layer.replace('/', '_')}.json"
    if not path.is_file():
        return None
    data = json.loads(path.read_text(encoding="utf-8"))
    files = [FOLDER / "pictures" / f"{name}.webp" for name in data["pictures"]]
    channels = tuple(
        tuple(Patch(files[picture], left, top, data["side"], activation) for picture, left, top, activation in channel)
        for channel in data["patches"]
    )
    return Patches(data["layer"], channels, *(tuple(map(tuple, data[name])) for name in ("classes", "channels")))


@dataclass(frozen=True)
class Match:
    """A channel that a search has found."""

    layer: str
    """Its address."""
    channel: int
    class_name: str = ""
    """The class by which it was found; "" if it was found by its layer or number."""


def layers() -> list[Patches]:
    """Return the patches of all layers of the atlas: those of the bundled networks, shallow to deep."""
    every = (patches(f"{network}/{layer}") for network in BUNDLED for layer in NETWORKS[network].layers)
    return [layer for layer in every if layer]


def search(text: str) -> list[Match]:
    """Return the channels that match a search text, in order.

    A layer with or without its network, a number, or both: `block9`, `vgg19/relu3_1 12`, `93`. Any other text is looked for as whole
    words in the names of classes; the result is then the channels of the last layer that weigh most for each of these classes.
    """
    words = text.lower().replace("/", " ").split()
    number = int(words.pop()) if words and words[-1].isdecimal() else None
    chosen = [layer for layer in layers() if layer.layer.split("/")[2 - len(words) :] == words]
    if number is not None:
        return [Match(layer.layer, number) for layer in chosen if number < len(layer.channels)]
    if words and chosen:
        return [Match(layer.layer, channel) for layer in chosen for channel in range(len(layer.channels))]
    sought = re.compile(rf"\b{re.escape(' '.join(text.lower().split()))}\b")
    return [
        Match(layer.layer, channel, name)
        for layer in layers()
        if words and layer.class_channels
        for name, channels in zip(class_names(split(layer.layer)[0]), layer.class_channels, strict=True)
        if sought.search(name.lower())
        for channel in channels
    ]


@lru_cache(maxsize=32)
def opened(file: Path) -> Image.Image:
    """Return a natural picture of the atlas. All stay in memory: they are small."""
    return _read(file)


@lru_cache(maxsize=4)
def _opened_sheet(file: Path) -> Image.Image:
    """Return the picture of a sheet. A few stay in memory: one takes up to 15 MB."""
    return _read(file)


def _read(file: Path) -> Image.Image:
    with Image.open(file) as picture:
        return picture.convert("RGB")
