"""What the optimiser moves: the sizes an image passes through, its spectrum, and a steadier view of an image that jitters."""

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


COLOURS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]]) / 0.4619
"""Rows R, G, B; columns the ways in which colours of photographs vary, most first: brightness, red or blue, green or not. They
are uncorrelated there. Measured on ImageNet by Lucid (Olah et al., 2017), here with the longest column of length 1."""


class Spectrum:
    """Images (B, 3, H, W) in (0, 1) given by what the optimiser moves: the waves they are made of (Olah et al., 2017).

    The waves of an image are scaled by 1/f, as in photographs, so that a step changes large shapes as easily as small ones;
    their colours are decorrelated; a sigmoid keeps the result in range. To an optimiser this is a much rounder valley than
    pixels are.
    """

    def __init__(self, waves: Tensor, size: tuple[int, int], decay: float = 1.0):
        """`waves` (B, 3, H, W // 2 + 1, 2) are real and imaginary parts for images of `size` (height, width). They are scaled
        by 1/f to the power of `decay`.
        """
        self.size = size
        self.waves = waves.requires_grad_()
        self._scale = frequencies(size, waves.device) ** -decay
        self._colours = COLOURS.to(waves.device)

    @classmethod
    def noise(
        cls,
        size: tuple[int, int],
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        *,
        batch: int = 1,
        decay: float = 1.0,
    ) -> "Spectrum":
        """Almost even grey."""
        height, width = size
        waves = torch.randn(batch, 3, height, width // 2 + 1, 2, generator=generator)
        return cls(0.01 * waves.to(device), size, decay)

    def __call__(self) -> Tensor:
        """The images, with a gradient that leads to the waves."""
        planes = torch.fft.irfft2(torch.view_as_complex(self.waves) * self._scale, s=self.size, norm="ortho")
        return torch.einsum("rc,bchw->brhw", self._colours, planes / 4).sigmoid()


def frequencies(size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """Cycles per pixel of each wave of a real image of (height, width), (H, W // 2 + 1); 1 over the longer side for no wave."""
    height, width = size
    down, right = torch.fft.fftfreq(height, device=device), torch.fft.rfftfreq(width, device=device)
    return torch.hypot(down.unsqueeze(1), right).clamp_min(1 / max(size))
