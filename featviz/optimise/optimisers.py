"""The optimisers of style transfer, each a row with its settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from featviz.optimise.precision import TINY
from featviz.optimise.scaling import resize

STEP_SIZE = 0.05
"""Learning rate of Adam at the start of each scale: about the change of a pixel in a step, of a range of 1."""

FIRST_STEP = 0.005
"""Mean change of a pixel in the first step of L-BFGS, of a range of 1."""

HISTORY, HISTORY_BYTES = 10, 400e6
"""Greatest length of the history of L-BFGS in steps, of two images each, and in bytes. It is shorter for large images."""

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""Adam's state for each pixel. It adapts to another loss within a few steps, so it is kept when strengths change."""


def resized(moments: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """Return Adam's state resized to (height, width). `step` is kept, so that the bias of the start is not corrected twice."""
    return {
        name: resize(value, size).relu() if name == "exp_avg_sq" else resize(value, size) if value.ndim else value
        for name, value in moments.items()
        if name in MOMENTS
    }


def history_length(image_bytes: int) -> int:
    """Return the number of steps in the history of L-BFGS for an image of this size."""
    return max(2, min(HISTORY, int(HISTORY_BYTES / (2 * image_bytes))))


def first_step(gradient: Tensor, loss: Tensor) -> float:
    """Return the learning rate of the first step of L-BFGS, which has only a gradient.

    The mean change is `FIRST_STEP`, or less if the linear extrapolation of the loss reaches 0 before.
    """
    size = gradient.abs().sum().clamp_min(TINY)
    step = torch.minimum(FIRST_STEP * gradient.numel() / size, loss / gradient.square().sum().clamp_min(TINY))
    return (step * size.clamp_min(1)).item()  # torch divides by `size` where that is more than 1.


@dataclass(frozen=True)
class Optimiser:
    """An optimiser and its settings."""

    make: Callable[[list[Tensor]], torch.optim.Optimizer]
    rate: Callable[[float, Tensor, Tensor, bool], float]
    """Progress through a scale in (0, 1], gradient, loss, whether it is the first step → learning rate."""
    averaged: float
    """Decay of the moving average that is the result; 0 for the iterates themselves."""
    jitter: int
    """Largest random shift of a step, in pixels; it prevents grain."""
    lasting: tuple[str, ...]
    """Names of the state that stays valid when the loss changes."""

    def forget_loss(self, optimiser: torch.optim.Optimizer) -> None:
        """Drop the state that is not valid any more because the loss has changed."""
        for state in optimiser.state.values():
            for name in state.keys() - set(self.lasting):
                del state[name]


OPTIMISERS = {
    # Differs from Crowson (2021): the image is clamped to [0, 1] here too, and converges in fewer steps.
    "lbfgs": Optimiser(
        make=lambda images: torch.optim.LBFGS(
            images, max_iter=1, history_size=history_length(images[0].nbytes), tolerance_grad=0, tolerance_change=0
        ),
        rate=lambda progress, gradient, loss, first: first_step(gradient, loss) if first else 1.0,
        averaged=0.0,
        jitter=0,  # Shifts would enter the estimate of the curvature.
        lasting=(),  # Gradients of the old loss give no curvature of the new one.
    ),
    "adam": Optimiser(
        make=partial(torch.optim.Adam, betas=(0.9, 0.99)),
        rate=lambda progress, gradient, loss, first: STEP_SIZE * (1 - 0.8 * progress),  # Settle before the next scale.
        averaged=0.9,
        jitter=4,
        lasting=MOMENTS,
    ),
}
