"""Parameterizations: images as functions of the parameters of an optimiser; also image pyramids and averages of iterates."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Parameterization(Protocol):
    """Images as a function of tensors that an optimiser changes."""

    def parameters(self) -> Iterable[Tensor]:
        """Return the tensors to change: leaves that require a gradient, with the image as their first dimension."""
        ...

    def __call__(self) -> Tensor:
        """Return the images (B, 3, H, W) in [0, 1], differentiable with respect to the parameters."""
        ...


def pyramid(size: tuple[int, int], levels: int, ratio: float, smallest: int) -> list[tuple[int, int]]:
    """Return the (height, width) of each level of an image pyramid, small to large; the last is `size`.

    Levels with a side under `smallest` are left out, so there may be fewer than `levels`, but at least one.
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

    It is smoother than the iterates, since oscillations of the optimiser cancel (Crowson, 2021).
    """

    def __init__(self, decay: float):
        self._decay = decay
        self._sum: Tensor | float = 0.0
        self._weight = 0.0

    @torch.no_grad()
    def update(self, image: Tensor) -> Tensor:
        """Add an iterate and return the average so far."""
        self._sum = self._decay * self._sum + (1 - self._decay) * image
        self._weight = self._decay * self._weight + (1 - self._decay)
        return self._sum / self._weight


class Pixels:
    """Images (B, 3, H, W) in (0, 1), given by their pixels through a sigmoid.

    The plain parameterization, to compare others with: without a transform it gives high frequencies (Olah et al., 2017).
    """

    def __init__(self, images: Tensor):
        """`images` are (B, 3, H, W) in [0, 1]. Values closer than 1/512 to 0 or 1 are moved there, where a sigmoid still moves."""
        self._values = torch.logit(images.detach(), eps=1 / 512).requires_grad_()

    def parameters(self) -> list[Tensor]:
        """Return the pixels before the sigmoid, (B, 3, H, W)."""
        return [self._values]

    def __call__(self) -> Tensor:
        """Return the images."""
        return self._values.sigmoid()


COLOURS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]]) / 0.4619
"""Rows R, G, B; columns the principal directions of the colours of photographs, in which they are uncorrelated: brightness, red
against blue, green against the rest. Measured on ImageNet by Lucid (Olah et al., 2017), here with the longest column of length 1."""


class Spectrum:
    """Images (B, 3, H, W) in (0, 1), given by their Fourier coefficients (Olah et al., 2017).

    Coefficients are scaled by 1/f, as in photographs, so that a step changes large shapes as easily as small ones. Colours are
    decorrelated, and a sigmoid keeps the result in range. The problem is better conditioned than on pixels.
    """

    def __init__(self, waves: Tensor, size: tuple[int, int], decay: float = 1.0):
        """`waves` (B, 3, H, W // 2 + 1, 2) are real and imaginary parts for images of `size` (height, width). They are scaled
        by 1/f to the power of `decay`.
        """
        self.size = size
        self.waves = waves.requires_grad_()
        self._decay = decay
        self._scale = frequencies(size, waves.device) ** -decay
        self._colours = COLOURS.to(waves.device)

    @classmethod
    def noise(
        cls,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
        *,
        batch: int = 1,
        decay: float = 1.0,
    ) -> "Spectrum":
        """Return `batch` images of (height, width) that are almost even grey. Without a generator, the seed is 0."""
        height, width = size
        generator = generator or torch.Generator().manual_seed(0)
        waves = torch.randn(batch, 3, height, width // 2 + 1, 2, generator=generator)
        return cls(0.01 * waves.to(device), size, decay)

    @classmethod
    def of(cls, images: Tensor, decay: float = 1.0) -> "Spectrum":
        """Return the spectrum of images (B, 3, H, W) in [0, 1]. Values closer than 1/512 to 0 or 1 are moved there."""
        size = (images.shape[-2], images.shape[-1])
        planes = 4 * torch.einsum("cr,brhw->bchw", COLOURS.inverse().to(images.device), torch.logit(images.detach(), eps=1 / 512))
        waves = torch.fft.rfft2(planes, norm="ortho") / frequencies(size, images.device) ** -decay
        return cls(torch.view_as_real(waves).contiguous(), size, decay)

    def parameters(self) -> list[Tensor]:
        """Return the coefficients, (B, 3, H, W // 2 + 1, 2)."""
        return [self.waves]

    def repeated(self, count: int) -> "Spectrum":
        """Return `count` copies of the images that change independently."""
        return Spectrum(self.waves.detach().repeat(count, 1, 1, 1, 1), self.size, self._decay)

    def __call__(self) -> Tensor:
        """Return the images."""
        return self.at(self.waves)

    def at(self, waves: Tensor) -> Tensor:
        """Return the images of other coefficients, of the same size."""
        planes = torch.fft.irfft2(torch.view_as_complex(waves) * self._scale, s=self.size, norm="ortho")
        return torch.einsum("rc,bchw->brhw", self._colours, planes / 4).sigmoid()


class Phases:
    """Images (B, 3, H, W) in (0, 1), given by the phases of their Fourier coefficients; the magnitudes are fixed (MACO: Fel et al.,
    2023).

    With the magnitudes of natural pictures, no frequency can grow beyond its share, so neither noise nor a regular pattern dominates.
    """

    def __init__(self, phases: Tensor, magnitudes: Tensor, size: tuple[int, int]):
        """`phases` (B, 3, H, W // 2 + 1) in radians and `magnitudes` (3, H, W // 2 + 1), before the sigmoid and with decorrelated
        colours as in `Spectrum`, for images of `size` (height, width).

        In the first column, and in the last one of an even width, each wave is stored twice, as mirror images: half the difference of
        the two phases is used. A wave that is its own mirror image, such as the mean, has the phase 0.
        """
        self.size = size
        self.phases = phases.requires_grad_()
        self._magnitudes = magnitudes.to(phases.device)
        self._colours = COLOURS.to(phases.device)

    @classmethod
    def noise(
        cls,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
        *,
        batch: int = 1,
        magnitudes: Tensor | None = None,
    ) -> "Phases":
        """Return `batch` images of (height, width) with random phases. Without a generator, the seed is 0.

        The magnitudes are those of natural pictures by default.
        """
        height, width = size
        generator = generator or torch.Generator().manual_seed(0)
        phases = 2 * math.pi * torch.rand(batch, 3, height, width // 2 + 1, generator=generator)
        return cls(phases.to(device), natural_magnitudes(size) if magnitudes is None else magnitudes, size)

    def parameters(self) -> list[Tensor]:
        """Return the phases, (B, 3, H, W // 2 + 1)."""
        return [self.phases]

    def repeated(self, count: int) -> "Phases":
        """Return `count` copies of the images that change independently."""
        return Phases(self.phases.detach().repeat(count, 1, 1, 1), self._magnitudes, self.size)

    def __call__(self) -> Tensor:
        """Return the images."""
        mirrored = self.phases.flip(2).roll(1, 2)
        column = torch.arange(self.phases.shape[3], device=self.phases.device)
        phases = torch.where(2 * column % self.size[1] == 0, (self.phases - mirrored) / 2, self.phases)
        planes = torch.fft.irfft2(torch.polar(self._magnitudes.expand_as(phases), phases), s=self.size, norm="ortho")
        return torch.einsum("rc,bchw->brhw", self._colours, planes / 4).sigmoid()


NATURAL = Path(__file__).with_name("natural_spectrum.json")
"""The mean magnitudes of the pictures of the atlas by frequency, in cycles per pixel, for each of the decorrelated colours, measured by
`scripts/spectrum.py`. They hardly depend on the size of a picture: photographs have nearly the same statistics at every scale."""


def natural_magnitudes(size: tuple[int, int]) -> Tensor:
    """Return the magnitudes of natural pictures of (height, width) for `Phases`, (3, H, W // 2 + 1).

    Interpolated between the frequencies of the table on logarithmic scales, and constant beyond them. The mean is 0, mid-grey.
    """
    table = json.loads(NATURAL.read_text(encoding="utf-8"))
    known, wanted = np.log(table["frequencies"]), np.log(frequencies(size).numpy())
    magnitudes = torch.tensor(
        np.exp([np.interp(wanted, known, np.log(plane)) for plane in table["magnitudes"]]), dtype=torch.float32
    )
    magnitudes[:, 0, 0] = 0
    return magnitudes


class Beside:
    """The images of a parameterization with fixed images after them, so that an objective can compare the two."""

    def __init__(self, changing: Parameterization, fixed: Tensor):
        """`fixed` are (B, 3, H, W) in [0, 1], of the size of the images of `changing`."""
        self._changing, self._fixed = changing, fixed

    def parameters(self) -> Iterable[Tensor]:
        """Return the parameters that are optimised: those of the images that are not fixed."""
        return self._changing.parameters()

    def __call__(self) -> Tensor:
        """Return the images that change and then the fixed ones, (B + B', 3, H, W)."""
        return torch.cat([self._changing(), self._fixed])


def frequencies(size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """Return the cycles per pixel of each coefficient of an image of (height, width), (H, W // 2 + 1); at least 1 / longest side."""
    height, width = size
    down, right = torch.fft.fftfreq(height, device=device), torch.fft.rfftfreq(width, device=device)
    return torch.hypot(down.unsqueeze(1), right).clamp_min(1 / max(size))
