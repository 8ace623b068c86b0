"""Image → image, each with its own randomness from a `torch.Generator`."""

from dataclasses import dataclass

import torch
from torch import Tensor


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
        return image.roll((-self.down, -self.right), dims=(-2, -1))
