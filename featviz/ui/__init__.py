"""The page, the API and the MCP server: one Gradio app, built from the recipes' fields."""

from typing import TYPE_CHECKING, Any

from featviz import extras

if TYPE_CHECKING:
    from featviz.ui.page import build
    from featviz.ui.serving.engine import Engine
    from featviz.ui.theme import launch

__all__ = ["Engine", "build", "launch"]

MODULES = {"build": "page", "Engine": "serving.engine", "launch": "theme"}
"""Public name → the module it is imported from when it is first used."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used. Raises MissingExtraError where Gradio is not installed."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(extras.load(f"{__name__}.{MODULES[name]}"), name)
