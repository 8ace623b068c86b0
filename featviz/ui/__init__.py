"""The page, the API and the MCP server: one Gradio app, built from the recipes' fields."""

from featviz.ui.page import build
from featviz.ui.running import Engine
from featviz.ui.theme import launch

__all__ = ["Engine", "build", "launch"]
