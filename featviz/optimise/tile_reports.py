"""Report the tiles of a long step as they are computed, so that a picture can be shown before the step ends.

Loops over tiles call `report`. A recipe says by `viewed` what its picture looks like in the middle of a step; who shows it listens by
`heard`. Results do not depend on any of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from featviz.optimise.tiles import Area


@dataclass(frozen=True)
class View:
    """How to draw the picture of a recipe while a step is not finished: each area before the step, or after it."""

    size: tuple[int, int]
    """(height, width) of the picture."""
    before: Callable[[Area], Tensor]
    """An area → the picture there before the step, (1, 3, h, w) in [0, 1]."""
    after: Callable[[Area, Tensor], Tensor | None]
    """An area, and the gradient there as far as it is known → the picture there after the step, as far as that follows from this
    part of the gradient alone; None if it does not."""
    offset: tuple[int, int] = (0, 0)
    """The position of the picture in the image that is computed by tiles, (down, right)."""


@dataclass(frozen=True)
class Report:
    """A tile that has passed through the network, forward or, with a gradient, forward and backward."""

    number: int
    """From 1 to `count`. Each pass over the tiles counts from 1; a step may have several."""
    count: int
    view: View | None = None
    """None if the tile is no part of the picture, but, say, of a style."""
    area: Area = (slice(0), slice(0))
    """The tile in the picture."""
    gradient: Tensor | None = None
    """The gradient there so far, (1, 3, h, w); None as long as the tile has passed forward only. Later tiles change it in place where
    they overlap."""


_view: ContextVar[View | None] = ContextVar("view", default=None)
_listener: ContextVar[Callable[[Report], object] | None] = ContextVar("listener", default=None)
"""Not arguments, for the same reason as the budget of tiles: the loops are deep below those who know them."""


@contextmanager
def viewed(view: View | None) -> Iterator[None]:
    """A context in which tiles are those of a view, or of no picture that is shown. It must not span a `yield` of a generator that others resume."""
    earlier = _view.set(view)
    try:
        yield
    finally:
        _view.reset(earlier)


@contextmanager
def heard(listener: Callable[[Report], object] | None) -> Iterator[None]:
    """A context in which a function is called with each report. It must not span a `yield` of a generator that others resume."""
    earlier = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(earlier)


def report(number: int, count: int, area: Area | None = None, gradient: Tensor | None = None) -> None:
    """Report that tile `number` of `count` has passed through the network. A single tile is not reported: it ends with its step, or soon after.

    `area`: its place in the image that is computed by tiles; None if that is not the picture of the view. `gradient`, (1, 3, H, W): of
    that whole image.
    """
    listener = _listener.get()
    if listener is None or count < 2:
        return
    view = _view.get()
    if view is None or area is None:
        listener(Report(number, count))
        return
    rows, columns = (
        slice(min(max(0, along.start - start), length), min(max(0, along.stop - start), length))
        for along, start, length in zip(area, view.offset, view.size, strict=True)
    )
    down, right = view.offset
    part = gradient
    if gradient is not None:
        part = gradient[..., rows.start + down : rows.stop + down, columns.start + right : columns.stop + right]
    listener(Report(number, count, view, (rows, columns), part))
