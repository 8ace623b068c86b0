"""The estimate of a run before it starts, and the largest size that fits this machine."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

from featviz.errors import FeatvizError, ImageError
from featviz.media.images import MASK, Header
from featviz.media.video import read_video_header
from featviz.recipes.presets import FINISHES, finishable
from featviz.recipes.recipe import Recipe
from featviz.recipes.sizes import SHORT_SIDE, largest_size, size_for_short_side
from featviz.runtime.clip import check_length, read_headers, takes_video
from featviz.runtime.estimate import Estimate, duration, gigabytes
from featviz.runtime.lease import longest_run
from featviz.ui import text
from featviz.ui.controls import recipe_of
from featviz.ui.masks import LONGEST
from featviz.ui.serving.files import file_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

Estimator = Callable[..., Estimate]
"""`featviz.runtime.estimate.estimate` without its device, or a stand-in for it."""

PAINTED = "painted"
"""The key of the picture that is open for painting, among the pictures by role."""

PATIENCE = 1.0
"""Seconds for which the page waits for an estimate. The first one takes longer: it loads a network and measures the machine."""

MOST = 64
"""The most predictions that are under way, or finished and not yet asked for again."""


class Forecast:
    """The estimate of a run as a sentence, and a size that fits if the chosen one does not."""

    def __init__(self, estimate: Estimator, memory_left: Callable[[], float]):
        self.estimate, self.memory_left = estimate, memory_left
        self._pool = ThreadPoolExecutor(thread_name_prefix="forecast")
        self._predictions: dict[bytes, Future] = {}
        """Those that nobody has got the result of, by what they depend on, the earliest first."""
        self._lock = threading.Lock()

    def soon(self, predict: Callable[[], T], *given: Any) -> T | None:
        """Return what a function predicts; None if that takes longer than `PATIENCE`. Then the caller is to ask again later.

        `given`: what the prediction depends on. A slow one goes on, and the next call that gives the same gets its result.
        """
        key = sha256(repr((text.language(), given)).encode()).digest()
        with self._lock:
            predicted = self._predictions.get(key) or self._begin(key, predict)
        if predicted is None or wait([predicted], PATIENCE).not_done:
            return None
        with self._lock:
            if self._predictions.get(key) is predicted:
                del self._predictions[key]
        return predicted.result()

    def _begin(self, key: bytes, predict: Callable[[], T]) -> Future | None:
        """Begin a prediction; None if `MOST` are under way. Drops the earliest finished one to make room."""
        if len(self._predictions) >= MOST:
            finished = next((other for other, future in self._predictions.items() if future.done()), None)
            if finished is None:
                return None
            del self._predictions[finished]
        self._predictions[key] = begun = self._pool.submit(copy_context().run, predict)
        return begun

    def sentence(self, kind: type[Recipe], sent: Mapping[str, Any], values: Sequence[Any]) -> tuple[str, int | None]:
        """Return the text of the line, and the size to offer or None.

        `kind` and `values`: the recipe's class and its fields in their order. `sent`: the pictures by role.
        """
        try:
            recipe = recipe_of(kind, values)
            known, free = known_inputs(kind, sent), self.memory_left()
            first = next((known["pictures"].get(role) for role in recipe.images), None)
            if first is None and recipe.images:
                return "", None
            estimate = partial(self.estimate, **known)
            needed = estimate(recipe)
        except ImageError:
            return "", None  # The run reports it.
        except FeatvizError as error:
            return str(error), None
        except Exception:
            logger.exception("No estimate.")
            return "", None
        if fits(needed, free):
            larger = size_for_short_side(recipe, first and first.size)
            if larger is None or not fits(estimate(recipe.replace(size=larger)), free):
                return _joined(str(needed)), None
            return _joined(str(needed), f"The shorter side has fewer than {SHORT_SIDE} pixels; size {larger} is better."), larger
        reasons = [f"Only {gigabytes(free)} are free."] if min(needed.bytes, needed.least_bytes) > free else []
        if needed.seconds > longest_run():
            reasons.append(f"A run may take {duration(longest_run())}.")
        fitting = largest_size(recipe, lambda smaller: fits(estimate(smaller), free))
        return _joined(str(needed), *reasons, *([f"Size {fitting} would fit."] if fitting else [])), fitting

    def finishes(self, recipe: Recipe | None, sent: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the levels of finish as choices, each with the time that it takes on this machine where that is known."""
        with suppress(FeatvizError):
            if recipe is not None and finishable(type(recipe)) and sent.get(next(iter(recipe.images))) is not None:
                known = known_inputs(type(recipe), sent)
                levels = {name: recipe.replace(**finish.of(recipe)) for name, finish in FINISHES.items()}
                seconds = {name: self.estimate(level, **known).seconds for name, level in levels.items()}
                return [(f"{text.translated(name)} · {duration(seconds[name])}", name) for name in FINISHES]
        return [(text.translated(name), name) for name in FINISHES]


def _joined(*sentences: str) -> str:
    """Return sentences as one text in the language of the request."""
    return " ".join(map(text.translated_pattern, sentences))


def known_inputs(kind: type[Recipe], sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an estimator takes beside a recipe, from uploaded pictures by role: `pictures` and, of a video, `count`.

    While a picture is open for painting, the mask that may be painted on it counts.

    Raises:
        ImageError: one is not a picture.
        InputError: the video cannot be read.
        LimitError: the video is too long.
    """
    files = {role: file for role, each in sent.items() if role != PAINTED and (file := file_of(each))}
    if takes_video(kind, files):
        check_length(read_video_header(files[next(iter(kind.images))]))
    found, count = read_headers(kind, files)
    if sent.get(PAINTED) is not None and MASK not in found:
        found[MASK] = Header((LONGEST, LONGEST))
    return {"pictures": found} | ({"count": count} if count > 1 else {})


def fits(needed: Estimate, free: float) -> bool:
    """Whether a run stays within the free memory and the time limit."""
    return min(needed.bytes, needed.least_bytes) <= free and needed.seconds <= longest_run()
