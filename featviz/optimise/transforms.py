"""Transforms, image → image. Random ones are drawn with a `torch.Generator`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Roll:
    """A cyclic shift by (down, right) pixels, and its inverse.

    Jitter by rolling keeps every pixel and has no border at a fixed position, unlike jitter by cropping and padding.
    """

    down: int
    right: int

    @classmethod
    def random(cls, most: int, generator: torch.Generator) -> "Roll":
        """Return a shift by up to `most` pixels in each direction."""
        down, right = torch.randint(-most, most + 1, (2,), generator=generator).tolist()
        return cls(down, right)

    def __call__(self, image: Tensor) -> Tensor:
        return image.roll((self.down, self.right), dims=(-2, -1))

    def undo(self, image: Tensor) -> Tensor:
        """Return an image (…, H, W) shifted back."""
        return image.roll((-self.down, -self.right), dims=(-2, -1))


@dataclass(frozen=True)
class Surround:
    """A margin around an image, filled with the mirror image of it. Its inverse cuts the margin off.

    Jitter by a margin of random width instead of a `Roll`: rolled borders meet inside the image, and a network answers to the edge
    between them with straight lines.
    """

    above: int
    left: int
    below: int
    right: int

    @classmethod
    def random(cls, least: int, jitter: int, generator: torch.Generator) -> "Surround":
        """Return a margin of `least` pixels on each side, and of `jitter` more that are shared out at random between two sides."""
        down, right = torch.randint(jitter + 1, (2,), generator=generator).tolist()
        return cls(least + down, least + right, least + jitter - down, least + jitter - right)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the image (…, H, W) with its margin, (…, above + H + below, left + W + right)."""
        height, width = image.shape[-2:]
        rows = _mirrored(torch.arange(-self.above, height + self.below, device=image.device), height)
        columns = _mirrored(torch.arange(-self.left, width + self.right, device=image.device), width)
        return image.index_select(-2, rows).index_select(-1, columns)

    def undo(self, image: Tensor) -> Tensor:
        """Return an image without its margin."""
        height, width = image.shape[-2:]
        return image[..., self.above : height - self.below, self.left : width - self.right]


@dataclass(frozen=True)
class Zoom:
    """Enlarge by a factor and turn clockwise by degrees, about the centre.

    The image is continued beyond its borders by its mirror image, which shows when turning or at a factor under 1.
    """

    factor: float
    degrees: float = 0.0

    def __call__(self, image: Tensor) -> Tensor:
        """Return the transformed image, (1, 3, H, W) in [0, 1]."""
        height, width = image.shape[-2:]
        turn = math.radians(self.degrees)
        cosine, sine = math.cos(turn) / self.factor, math.sin(turn) / self.factor
        down = torch.arange(height, device=image.device).unsqueeze(1) - (height - 1) / 2
        right = torch.arange(width, device=image.device) - (width - 1) / 2
        # The source position of each pixel of the result, in fractional rows and columns.
        rows = cosine * down - sine * right + (height - 1) / 2
        columns = sine * down + cosine * right + (width - 1) / 2
        return sample(image, rows, columns).clamp(0, 1)  # It overshoots at edges.


def sample(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return an image (1, C, H, W) at fractional positions, each (h, w): (1, C, h, w). Values may overshoot its range.

    Bicubic by the spline of Catmull and Rom (a = -1/2), which is exact for quadratic images. That of
    `torch.nn.functional.grid_sample` (a = -3/4) sharpens a little, which adds up over the frames of a video.
    """
    channels, height, width = image.shape[1:]
    pixels = image[0].flatten(1).T.contiguous()  # Channels last, so that a pixel is gathered as a whole.
    sampled = pixels.new_zeros(rows.numel(), channels)
    across = [*_taps(columns, width)]
    for row, row_weight in _taps(rows, height):
        for column, column_weight in across:
            weight = (row_weight * column_weight).view(-1, 1)
            sampled += weight * pixels.index_select(0, (row * width + column).flatten())
    return sampled.T.contiguous().view(1, channels, *rows.shape)


def _taps(positions: Tensor, length: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield index and weight of the four pixels around each position, mirrored at the borders, with the edge repeated."""
    first = positions.floor()
    t = positions - first
    weights = (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )
    for offset, weight in enumerate(weights, -1):
        yield _mirrored(first.int() + offset, length), weight


def _mirrored(index: Tensor, length: int) -> Tensor:
    """Return indices into a side of `length` pixels, for any indices: mirrored at the borders, with the edge repeated."""
    index = index % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)


@dataclass(frozen=True)
class Wobble:
    """Shift, enlarge and turn clockwise about the centre: the random transform that makes a visualisation robust.

    Jitter, scaling, rotation and jitter again (Olah et al., 2017) are one affine map, so the image is sampled once. Bilinear and
    differentiable; beyond the borders is the mirror image. Less exact than `Zoom`, but cheap enough for each step.
    """

    down: float = 0.0
    right: float = 0.0
    factor: float = 1.0
    degrees: float = 0.0

    @classmethod
    def random(cls, strength: float, generator: torch.Generator) -> "Wobble":
        """Return a random transform; at strength 1 up to 10 pixels in each direction, a factor of 1.1, and 10 degrees."""
        down, right, factor, degrees = (strength * (2 * torch.rand(4, generator=generator) - 1)).tolist()
        return cls(10 * down, 10 * right, 1.1**factor, 10 * degrees)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the transformed images, (B, 3, H, W)."""
        height, width = image.shape[-2:]
        turn = math.radians(self.degrees)
        cosine, sine = math.cos(turn) / self.factor, math.sin(turn) / self.factor
        # From a position in the result to its source, both in units of half a side. Not by `affine_grid`, whose matrix would have to
        # be uploaded at each step.
        down, right = (_centres(side, image) for side in (height, width))
        grid = torch.stack(
            [
                cosine * right + (sine * height / width) * down[:, None] - 2 * self.right / width,
                (-sine * width / height) * right + cosine * down[:, None] - 2 * self.down / height,
            ],
            -1,
        )
        return functional.grid_sample(image, grid.expand(len(image), -1, -1, -1), padding_mode="reflection", align_corners=False)


def _centres(side: int, like: Tensor) -> Tensor:
    """Return the centres of the pixels of a side, in (-1, 1), in units of half the side."""
    return (2 * torch.arange(side, device=like.device, dtype=like.dtype) + 1) / side - 1
