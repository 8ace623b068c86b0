"""What the optimiser moves: the sizes an image passes through, and a steadier view of an image that jitters."""

import torch
from torch import Tensor


def pyramid(size: tuple[int, int], levels: int, ratio: float, smallest: int) -> list[tuple[int, int]]:
    """The (height, width) an image passes through, small to large; the last is `size`.

    Levels with a side under `smallest` are left out, so there may be fewer than asked for, but always one.
    """
    sizes = []
    for level in range(levels):
        height, width = (round(side / ratio**level) for side in size)
        if level > 0 and min(height, width) < smallest:
            break
        sizes.append((height, width))
    return sizes[::-1]


class Average:
    """An exponential moving average of an image, free of bias towards its start (Kingma & Ba, 2015, section 3).

    Averaged iterates are smoother than the iterates: what an optimiser does to and fro cancels (Crowson, 2021).
    """

    def __init__(self, decay: float):
        self._decay = decay
        self._sum: Tensor | float = 0.0
        self._weight = 0.0

    @torch.no_grad()
    def update(self, image: Tensor) -> Tensor:
        """Take in one more iterate and return the average so far."""
        self._sum = self._decay * self._sum + (1 - self._decay) * image
        self._weight = self._decay * self._weight + (1 - self._decay)
        return self._sum / self._weight
