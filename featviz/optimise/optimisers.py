"""How an image moves down a gradient: rows of optimisers, each with what suits it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from featviz.optimise.precision import TINY
from featviz.optimise.scaling import resize

STEP_SIZE = 0.05
"""Of Adam, at the start of each scale: about how far a pixel moves in a step, of a range of 1."""

FIRST_STEP = 0.005
"""Of L-BFGS, before it has learnt how far to go: the mean change of a pixel, of a range of 1."""

HISTORY, HISTORY_BYTES = 10, 400e6
"""Steps that L-BFGS remembers, two images each, and what these may take: of a large image it remembers fewer."""

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""Adam's state for each pixel. It follows a loss that changes within a few steps, so it outlives a change of strengths."""


def resized(moments: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """Adam's state for an image of another size; `step` is kept, so that its start-up bias is not corrected twice."""
    return {
        name: resize(value, size).relu() if name == "exp_avg_sq" else resize(value, size) if value.ndim else value
        for name, value in moments.items()
        if name in MOMENTS
    }


def remembered(image: int) -> int:
    """Steps that L-BFGS remembers of an image of so many bytes."""
    return max(2, min(HISTORY, int(HISTORY_BYTES / (2 * image))))


def first_step(gradient: Tensor, loss: Tensor) -> float:
    """The learning rate of L-BFGS as long as it knows nothing but the gradient.

    For a mean change of `FIRST_STEP`, or less where a straight line down would have reached 0 by then.
    """
    size = gradient.abs().sum().clamp_min(TINY)
    step = torch.minimum(FIRST_STEP * gradient.numel() / size, loss / gradient.square().sum().clamp_min(TINY))
    return (step * size.clamp_min(1)).item()  # torch divides by `size` where that is more than 1.


@dataclass(frozen=True)
class Optimiser:
    """A way for the image to move."""

    make: Callable[[list[Tensor]], torch.optim.Optimizer]
    rate: Callable[[float, Tensor, Tensor, bool], float]
    """Progress through a scale in (0, 1], the gradient, the loss, whether it is the first step → learning rate."""
    averaged: float
    """Decay of the average of iterates that is shown; 0 shows the iterates themselves."""
    jitter: int
    """Random shift of each step, in pixels, which keeps grain from settling in."""
    lasting: tuple[str, ...]
    """Names of the state that stays valid when the loss changes."""

    def forget_loss(self, optimiser: torch.optim.Optimizer) -> None:
        """Drop the state that was learnt from a loss which no longer applies."""
        for state in optimiser.state.values():
            for name in state.keys() - set(self.lasting):
                del state[name]


OPTIMISERS = {
    # Differs from Crowson: the image is kept in [0, 1] here, too, with which it gets further in as many steps.
    "lbfgs": Optimiser(
        make=lambda images: torch.optim.LBFGS(
            images, max_iter=1, history_size=remembered(images[0].nbytes), tolerance_grad=0, tolerance_change=0
        ),
        rate=lambda progress, gradient, loss, first: first_step(gradient, loss) if first else 1.0,
        averaged=0.0,
        jitter=0,  # It would take shifts for curvature.
        lasting=(),  # Differences between gradients of the old loss are no curvature of the new one.
    ),
    "adam": Optimiser(
        make=partial(torch.optim.Adam, betas=(0.9, 0.99)),
        rate=lambda progress, gradient, loss, first: STEP_SIZE * (1 - 0.8 * progress),  # Settle before the next scale.
        averaged=0.9,
        jitter=4,
        lasting=MOMENTS,
    ),
}
