"""Run a recipe on a video: each frame follows the one before (Ruder, Dosovitskiy & Brox, 2016)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from featviz.optimise.flow import Motion, motion
from featviz.optimise.scaling import resize, size_of
from featviz.recipes.recipe import Frames, Recipe, param

if TYPE_CHECKING:
    from featviz.networks.network import Network

STEADINESS = param(
    1.0,
    "Of a video: how much each frame follows the one before. At 0 each is made alone and flickers.",
    ge=0,
    le=1,
    step=0.05,
    group="Video",
)
"""The field `steadiness` of the recipes that follow a video."""


@dataclass(frozen=True)
class Before:
    """The frame before, of the same shot."""

    picture: Tensor
    """(1, 3, H, W) in [0, 1], of the size of the result."""
    result: Tensor
    """(1, 3, H, W) in [0, 1]."""
    motion: Motion
    """From there to the frame that is computed."""
    number: int
    """How many frames of the video are complete."""


Follower = Callable[[Tensor, "Before | None"], Frames]
"""Function of the picture of a frame, (1, 3, H, W) in [0, 1], and of the frame before; None for the first frame of a shot, which is
computed as a still. The run of that frame."""


@dataclass(frozen=True)
class Shown:
    """A frame of a video that is complete."""

    picture: Tensor
    """(1, 3, H, W) in [0, 1], of any size."""
    result: Tensor
    """(1, 3, H, W) in [0, 1]."""
    number: int = 1
    """How many frames of the video are complete."""


def follow(
    recipe: Recipe,
    network: Network,
    role: str,
    pictures: Iterable[Tensor],
    latest: Shown | None = None,
    **others: Any,
) -> Frames:
    """Run a recipe on each picture of a video, (1, 3, H, W) in [0, 1], and yield the frames of these runs.

    The last of each run has `is_video_frame`. Steps and work are those of one run. While a later one is computed, `image` is the
    result before. Memory does not depend on the number of pictures.

    Args:
        recipe: a recipe that can follow a video.
        network: the network of the run.
        role: the role of the picture that the video stands for.
        pictures: the pictures of the video, in order.
        latest: the frame before the first of `pictures`, if the video goes on from there.
        others: the other arguments of `recipe.run`.

    Raises:
        MissingExtraError: OpenCV is not installed, and the recipe's `steadiness` is above 0.
        Also what `recipe.run` raises.
    """
    frames_of: Follower | None = None
    for picture in pictures:
        if frames_of is None:
            frames_of = recipe.follower(network, **{role: picture}, **others)
        before = _before(latest, picture) if dict(recipe)["steadiness"] else None
        with closing(frames_of(picture, before)) as frames:
            frame, changed = None, None
            while frame is None or not frame.is_video_frame:
                frame = frames.send(changed)
                done = frame.step == frame.steps
                frame = frame.replace(is_video_frame=done, **({} if done or latest is None else {"image": latest.result}))
                changed = yield frame
        latest = Shown(picture, frame.image, latest.number + 1 if latest else 1)
        if changed is not None and changed != recipe:
            recipe, frames_of = changed, None


def _before(latest: Shown | None, picture: Tensor) -> Before | None:
    """Return the frame before a picture; None if there is none, or if it is of another shot."""
    if latest is None:
        return None
    size = size_of(latest.result)
    fitted = resize(latest.picture, size).clamp(0, 1)
    movement = motion(fitted, resize(picture, size).clamp(0, 1))
    return None if movement.is_cut else Before(fitted, latest.result, movement, latest.number)
