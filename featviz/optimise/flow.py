"""Where the pixels of a video's frame were in the frame before: dense optical flow, and where it can be relied on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from featviz import extras
from featviz.optimise.scaling import fitted_size, resize, size_of
from featviz.optimise.transforms import sample

if TYPE_CHECKING:
    import cv2
else:
    cv2 = extras.Lazy("cv2")

SIDE = 512
"""Longest side, in pixels, at which the flow is computed. That of a larger image is enlarged."""

ROUND_TRIP = (0.01, 0.5)
"""The flow there and back must end where it began: its square may be at most 0.01 of the squares of both, plus 0.5 pixels²
(Sundaram, Brox & Keutzer, 2010)."""

ALIKE = 0.1
"""The most by which the brightness of a pixel may differ from where it was, of a range of 1: a third of what a cut changes."""

LEAST_VISIBLE = 0.4
"""The share of a frame that has to be visible in the frame before. Below it, the two are of different shots."""

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (Rec. 601)."""


@dataclass(frozen=True)
class Motion:
    """The motion from a frame of a video to the next one."""

    rows: Tensor
    """(H, W): for each pixel of the later frame its row in the frame before, a fraction."""
    columns: Tensor
    """(H, W): its column."""
    visible: Tensor
    """(1, 1, H, W) in [0, 1]: whether the pixel is visible in the frame before, and its motion known."""

    def __call__(self, image: Tensor) -> Tensor:
        """Return an image of the frame before, (1, C, H, W), moved to the later frame. Meaningful where `visible` is above 0."""
        return sample(image, self.rows, self.columns)

    @property
    def is_cut(self) -> bool:
        """Whether the two frames have so little in common that they are of different shots."""
        return self.visible.mean().item() < LEAST_VISIBLE


def motion(before: Tensor, after: Tensor, preset: Literal["fast", "medium"] = "medium") -> Motion:
    """Return the motion from one frame of a video to the next, both (1, 3, H, W) in [0, 1].

    By the dense inverse search of Kroeger et al. (2016), from OpenCV, with one of its presets: "fast" takes half the time of "medium"
    and has twice its error (benchmarks/RESULTS.md). A pixel is visible if the flow back and forth ends where it began, inside of the
    frame before, and if its brightness there is about the same. Differs from Ruder et al. (2016): borders of motion are not left out,
    since this flow blurs them more than theirs, and the brightness is compared instead.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    height, width = size_of(after)
    size = fitted_size((height, width), min(SIDE, max(height, width)))
    earlier, later = (_grey(resize(image, size)) for image in (before, after))
    search: Any = cv2  # OpenCV's stubs lack it.
    dense = search.DISOpticalFlow_create(getattr(search, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}"))
    # (H, W, 2) in pixels, x first: the pixel at p of the first picture is at p + flow in the second one.
    back, forth = dense.calc(later, earlier, None), dense.calc(earlier, later, None)
    rows, columns = (axis.astype(np.float32) for axis in np.mgrid[: size[0], : size[1]])
    x, y = columns + back[..., 0], rows + back[..., 1]
    returned = back + _at(forth, x, y)
    share, constant = ROUND_TRIP
    closed = (returned**2).sum(-1) <= share * ((back**2).sum(-1) + (_at(forth, x, y) ** 2).sum(-1)) + constant
    inside = (x > -0.5) & (x < size[1] - 0.5) & (y > -0.5) & (y < size[0] - 0.5)
    difference = cv2.blur(later.astype(np.float32) - _at(earlier.astype(np.float32), x, y), (3, 3))
    visible = (closed & inside & (np.abs(difference) <= 255 * ALIKE)).astype(np.float32)
    # Of each border of what is visible, a pixel is left out: it is a mixture of both sides.
    visible = cv2.erode(visible, np.ones((3, 3), np.uint8))
    scale = width / size[1], height / size[0]
    maps = [
        torch.from_numpy(values)[None, None].to(after) for values in (back[..., 1] * scale[1], back[..., 0] * scale[0], visible)
    ]
    down, right, seen = (resize(values, (height, width)) for values in maps)
    row = torch.arange(height, device=after.device, dtype=after.dtype)[:, None]
    column = torch.arange(width, device=after.device, dtype=after.dtype)
    return Motion(row + down[0, 0], column + right[0, 0], seen.clamp(0, 1))


def _grey(image: Tensor) -> np.ndarray[Any, Any]:
    """Return the brightness of an image (1, 3, H, W) in [0, 1] as (H, W) uint8."""
    weights = image.new_tensor(GREY)[:, None, None]
    return ((image[0] * weights).sum(0).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _at(values: np.ndarray[Any, Any], x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return values (H, W) or (H, W, C) at fractional positions, bilinear."""
    return cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
