"""The atlas: optimised pictures of every channel of some layers, computed in advance by `scripts/atlas.py` (`make atlas`).

Each layer is a sheet: a picture of thumbnails in rows, and a JSON file of the same name that records the layer, the recipe of
the thumbnails and the highest activation of each channel on its own thumbnail.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from featviz.recipes import presets

FOLDER = presets.FOLDER / "atlas"

COLUMNS = 16
"""Thumbnails in a row of a sheet."""


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

    @cached_property
    def picture(self) -> Image.Image:
        """All thumbnails, `COLUMNS` in a row."""
        with Image.open(self.file) as opened:
            return opened.convert("RGB")

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
def sheets(folder: Path = FOLDER) -> dict[str, Sheet]:
    """Return all sheets by the addresses of their layers."""
    return {sheet.layer: sheet for sheet in map(read_sheet, sorted(folder.glob("*.json")))}
