"""Image → image; what is random about one comes from a `torch.Generator`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Roll:
    """A cyclic shift by (down, right) pixels, and its undoing.

    Jitter by rolling keeps every pixel and puts no border at a fixed place, unlike crop-and-pad jitter.
    """

    down: int
    right: int

    @classmethod
    def random(cls, most: int, generator: torch.Generator) -> "Roll":
        """Up to `most` pixels each way."""
        down, right = torch.randint(-most, most + 1, (2,), generator=generator).tolist()
        return cls(down, right)

    def __call__(self, image: Tensor) -> Tensor:
        return image.roll((self.down, self.right), dims=(-2, -1))

    def undo(self, image: Tensor) -> Tensor:
        """The image (…, H, W) as it was before the shift."""
        return image.roll((-self.down, -self.right), dims=(-2, -1))


@dataclass(frozen=True)
class Zoom:
    """Enlarge by a factor and turn clockwise by degrees, about the centre, which stays where it is.

    What would be seen beyond the borders, when turning or at a factor under 1, is the picture's own mirror image.
    """

    factor: float
    degrees: float = 0.0

    def __call__(self, image: Tensor) -> Tensor:
        """(1, 3, H, W) in [0, 1] → the same.

        Bicubic by Catmull and Rom's spline (a = -1/2), which is exact where an image is even, sloping or curved. That
        of `torch.nn.functional.grid_sample` (a = -3/4) sharpens a little, which adds up over the frames of a video.
        """
        height, width = image.shape[-2:]
        turn = math.radians(self.degrees)
        cosine, sine = math.cos(turn) / self.factor, math.sin(turn) / self.factor
        down = torch.arange(height, device=image.device).unsqueeze(1) - (height - 1) / 2
        right = torch.arange(width, device=image.device) - (width - 1) / 2
        # From a pixel of the result back to where it was, in rows and columns, between the pixels there.
        rows = cosine * down - sine * right + (height - 1) / 2
        columns = sine * down + cosine * right + (width - 1) / 2
        moved = torch.zeros_like(image)
        for row, row_weight in _taps(rows, height):
            for column, column_weight in _taps(columns, width):
                moved += row_weight * column_weight * image[..., row, column]
        return moved.clamp(0, 1)  # It overshoots at edges.


def _taps(places: Tensor, length: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The four pixels about each place and their weights, mirrored at the borders so that the edge is there twice."""
    first = places.floor()
    t = places - first
    weights = (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )
    for offset, weight in enumerate(weights, -1):
        index = (first.long() + offset) % (2 * length)
        yield torch.minimum(index, 2 * length - 1 - index), weight


@dataclass(frozen=True)
class Wobble:
    """Move, enlarge and turn clockwise, about the centre: all that makes a visualisation robust, in one go.

    Padding, jitter, scaling, rotation and jitter again (Olah et al., 2017) are one affine map. Done together, the image is
    sampled once. Bilinear, with a gradient; beyond the borders is the picture's own mirror image. Unlike `Zoom`, which is
    exact enough for a film of hundreds of frames, it is cheap enough for each step.
    """

    down: float = 0.0
    right: float = 0.0
    factor: float = 1.0
    degrees: float = 0.0

    @classmethod
    def random(cls, strength: float, generator: torch.Generator) -> "Wobble":
        """Of strength 1: up to 10 pixels each way, a tenth larger or smaller, and 10 degrees."""
        down, right, factor, degrees = (strength * (2 * torch.rand(4, generator=generator) - 1)).tolist()
        return cls(10 * down, 10 * right, 1.1**factor, 10 * degrees)

    def __call__(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) → the same."""
        height, width = image.shape[-2:]
        turn = math.radians(self.degrees)
        cosine, sine = math.cos(turn) / self.factor, math.sin(turn) / self.factor
        # From a place in the result back to where it was, both in units of half a side.
        back = [
            [cosine, sine * height / width, -2 * self.right / width],
            [-sine * width / height, cosine, -2 * self.down / height],
        ]
        places = functional.affine_grid(image.new_tensor([back]), [1, *image.shape[1:]], align_corners=False)
        return functional.grid_sample(
            image, places.expand(len(image), -1, -1, -1), padding_mode="reflection", align_corners=False
        )
