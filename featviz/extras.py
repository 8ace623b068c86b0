"""Optional packages. Each belongs to an extra of `pyproject.toml` and is imported at first use."""

from importlib import import_module
from types import ModuleType
from typing import Any

from featviz.errors import MissingExtraError

EXTRAS = {"gradio": "app", "httpx": "app", "starlette": "app", "av": "video", "cv2": "video", "pillow_heif": "heif", "ray": "ray"}
"""Module → extra that installs it."""

PURPOSES = {
    "av": "Videos need PyAV",
    "cv2": "Steady videos need OpenCV",
    "pillow_heif": "HEIC pictures need pillow-heif",
    "ray": "--ray needs Ray",
}
"""Module → beginning of the message when it is missing. All others are of the page."""


def missing(module: str) -> MissingExtraError:
    """Return the error for a module of `EXTRAS` that is not installed. Its message has the command that installs it."""
    purpose = PURPOSES.get(module, "The page needs Gradio")
    return MissingExtraError(f'{purpose}, which is not installed: pip install "featviz[{EXTRAS[module]}]"')


def load(name: str) -> ModuleType:
    """Import a module of `EXTRAS`, or a module of this package that imports such modules.

    Raises:
        MissingExtraError: a module of `EXTRAS` is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        raise missing(error.name) from error


class Lazy(ModuleType):
    """A module of `EXTRAS` that is imported when an attribute is first read. That raises as `load` does."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(load(self.__name__), name)
        setattr(self, name, value)
        return value
