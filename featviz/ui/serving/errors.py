"""Every error as one sentence."""

import errno
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from html import escape, unescape
from typing import Any

import gradio as gr

from featviz.errors import FeatvizError
from featviz.media.images import Picture
from featviz.recipes.recipe import Recipe
from featviz.runtime import jobs
from featviz.runtime.jobs import INTERNAL_ERROR
from featviz.runtime.stream import Preview

Runner = Callable[..., Iterator[Preview]]
"""`featviz.stream`, or a stand-in for it."""

DISK_FULL = "The server's disk is full. Please try again later."

logger = logging.getLogger(__name__)


@contextmanager
def error_sentences() -> Iterator[None]:
    """Turn every exception into a `gr.Error` with one sentence. Gradio renders the sentence as HTML, so it is escaped.

    Works as a decorator of functions too. Generators need `with_error_sentences`.
    """
    try:
        yield
    except gr.Error:
        raise
    except FeatvizError as error:
        if _disk_full(error):
            raise gr.Error(DISK_FULL, print_exception=False) from None
        raise gr.Error(escape(str(error), quote=False), print_exception=False) from None
    except Exception as error:
        if _disk_full(error):
            raise gr.Error(DISK_FULL, print_exception=False) from None
        logger.exception("A run failed.")
        raise gr.Error(INTERNAL_ERROR, print_exception=False) from None


def _disk_full(error: BaseException | None) -> bool:
    """Return whether an error or one of its causes is a full disk."""
    return error is not None and (getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _disk_full(error.__cause__))


def explain(error: Exception) -> str:
    """Return the sentence for an error of a run, as plain text. An unexpected error is logged."""
    if isinstance(error, gr.Error):  # From `with_error_sentences`, or from what lends the device.
        return unescape(re.sub("<[^>]*>", "", error.message))
    return DISK_FULL if _disk_full(error) else jobs.explain(error)


def with_error_sentences(run: Runner) -> Runner:
    """Apply `error_sentences` to a generator. Goes inside `lend`, because ZeroGPU passes on `gr.Error` only."""

    @wraps(run)
    def wrapped(recipe: Recipe, *arguments: Any, **pictures: Picture) -> Iterator[Any]:
        with error_sentences():
            yield from run(recipe, *arguments, **pictures)

    return wrapped
