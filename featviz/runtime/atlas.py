"""The atlas: what every channel of some layers looks for, computed beforehand by `make atlas` and kept as sheets.

A sheet is a picture of thumbnails in rows, beside it a JSON of the same name that says of which layer they are, by which
recipe they were made, and how loudly each channel answers to its own. `scripts/atlas.py` makes them.
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
    """Of the recipe `feature_visualization` that makes each thumbnail, but for the channel."""
    peaks: tuple[float, ...]
    """What each channel answers to its thumbnail where it answers most."""
    file: Path

    @cached_property
    def picture(self) -> Image.Image:
        """All thumbnails, `COLUMNS` in a row."""
        with Image.open(self.file) as opened:
            return opened.convert("RGB")

    def thumbnail(self, channel: int) -> Image.Image:
        """What a channel looks for. Raises IndexError where there is no such channel."""
        if not 0 <= channel < len(self.peaks):
            raise IndexError(f"{self.layer} has no channel {channel}.")
        side, (row, column) = self.fields["size"], divmod(channel, COLUMNS)
        return self.picture.crop((column * side, row * side, (column + 1) * side, (row + 1) * side))


def read(path: Path) -> Sheet:
    """A sheet out of its JSON: {"layer", "fields": {name: value}, "peaks": [number]}."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Sheet(data["layer"], data["fields"], tuple(data["peaks"]), path.with_suffix(".webp"))


@cache
def sheets(folder: Path = FOLDER) -> dict[str, Sheet]:
    """Every sheet there is, by the address of its layer."""
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    return {sheet.layer: sheet for sheet in found}
