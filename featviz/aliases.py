"""Earlier names that still work: earlier name → current name, one table for each surface.

No surface warns: an earlier name means the same as the current one and stays, so there is nothing for a user to do.
"""

from collections.abc import Mapping
from typing import Any

PUBLIC = {"Classify": "Classification", "DreamZoom": "DeepDreamZoom", "look": "inspect_layer"}
"""Names that `featviz` exports."""

RECIPES = {"classify": "classification"}
"""Names of recipes: in files, in links, in the API and on the command line."""

ENDPOINTS = {**RECIPES, "looks": "presets"}
"""Endpoints of the API."""

ATTRIBUTES = {"extras": "optional_images", "changed": "changed_fields", "needed": "scaled_side"}
"""Attributes of recipes."""

OPTIONS = {"look": "preset"}
"""Options of the command line, without their dashes."""


class Renamed:
    """An earlier name of an attribute of a class and of its instances."""

    def __init__(self, current: str):
        self.current = current

    def __get__(self, instance: object | None, owner: type) -> Any:
        return getattr(owner if instance is None else instance, self.current)


def earlier(name: str, table: Mapping[str, str]) -> list[str]:
    """Return the earlier names of a current name."""
    return [alias for alias, current in table.items() if current == name]
