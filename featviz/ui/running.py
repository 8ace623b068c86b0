"""A run as the surfaces see it: what is checked before it starts, and what people read when it cannot go on."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from html import escape
from typing import Any

import gradio as gr
from gradio.processing_utils import save_base64_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from featviz.errors import FeatvizError
from featviz.recipe import Recipe
from featviz.stream import Preview, open_picture

Runner = Callable[..., Iterator[Preview]]
"""`featviz.stream`, or what stands in for it."""

SORRY = "Something went wrong on our side, and it has been noted. Please try again, or try another picture."

logger = logging.getLogger(__name__)


@contextmanager
def sentences() -> Iterator[None]:
    """Turn whatever goes wrong into the one sentence a visitor reads. Gradio renders it as HTML, hence the escape."""
    try:
        yield
    except gr.Error:
        raise
    except FeatvizError as error:
        raise gr.Error(escape(str(error), quote=False), print_exception=False) from None
    except Exception:
        logger.exception("A run failed.")
        raise gr.Error(SORRY, print_exception=False) from None


def polite(run: Runner) -> Runner:
    """`run`, failing in sentences. Inside a lent GPU, since ZeroGPU lets no other exception through unharmed."""

    @wraps(run)
    def polite_run(recipe: Recipe, **pictures: Image.Image) -> Iterator[Preview]:
        with sentences():
            yield from run(recipe, **pictures)

    return polite_run


def checked(recipe: type[Recipe], sent: Sequence[Any]) -> tuple[Recipe, dict[str, Image.Image]]:
    """The recipe and its opened pictures out of what was sent: all that can be wrong is found before a GPU is asked for."""
    with sentences():
        named = dict(zip([*recipe.images, *recipe.model_fields, *recipe.extras], sent, strict=True))
        chosen = recipe(**{name: named[name] for name in recipe.model_fields})
        roles = [*recipe.images, *(role for role in recipe.extras if named[role] is not None)]
        return chosen, {role: open_picture(file_of(named[role]), role) for role in roles}


def file_of(sent: Mapping[str, Any] | None) -> str | None:
    """The file that the page or a program sent, whatever is in it: the library says what is wrong with it."""
    if sent is None:
        return None
    if (url := sent.get("url") or "").startswith("data:"):
        return save_base64_to_cache(url, get_upload_folder())
    return sent["path"]
