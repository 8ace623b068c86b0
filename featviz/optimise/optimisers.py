"""The optimisers of style transfer and of reconstructions. None of them reads a number back from the device.

L-BFGS is written here, since that of `torch.optim` waits for the device several times in each step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from featviz.optimise.precision import TINY
from featviz.optimise.scaling import resize, size_of
from featviz.optimise.tiles import Area

STEP_SIZE = 0.05
"""Learning rate of Adam at the start of each scale: about the change of a pixel in a step, of a range of 1."""

FIRST_STEP = 0.005
"""Mean change of a pixel in the first step of L-BFGS, of a range of 1."""

HISTORY, HISTORY_BYTES = 10, 400e6
"""Greatest length of the history of L-BFGS in steps, of two images each, and in bytes. It is shorter for large images."""

LEAST_CURVATURE = 1e-10
"""The least product of a step and the change of the gradient along it. Steps with less tell nothing about the curvature."""

DECREASE = 1e-4
"""The least decrease of the loss in a step that is accepted, relative to what the slope predicts (Armijo's condition)."""

SHORTER = (0.1, 0.5)
"""The range of factors by which a step that is not accepted is shortened."""

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""Adam's state for each pixel."""


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


class Curvature:
    """The inverse Hessian of a loss as L-BFGS knows it, from its latest steps (Nocedal & Wright, 2006, algorithm 7.4).

    Differs from `torch.optim.LBFGS`: a step without curvature is stored with the weight 0 instead of being left out, since that
    needs no decision of the host.
    """

    def __init__(self, history: int, device: torch.device):
        self._pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=history)
        """Step (N,), change of the gradient (N,), and 1 / their product, (), the oldest first."""
        self.scale = torch.zeros((), device=device)
        """The mean inverse curvature, (); 0 as long as no step had any."""

    def add(self, step: Tensor, change: Tensor) -> None:
        """Add a step (N,) and the change of the gradient along it, (N,)."""
        product = step.dot(change)
        curved = product > LEAST_CURVATURE
        self._pairs.append((step, change, torch.where(curved, 1 / product, 0)))
        self.scale = torch.where(curved, product / change.dot(change), self.scale)

    def direction(self, gradient: Tensor) -> Tensor:
        """Return minus the inverse Hessian times a gradient (N,); 0 as long as no step had any curvature."""
        shares: list[Tensor] = []
        result = -gradient
        for step, change, inverse in reversed(self._pairs):
            shares.append(step.dot(result) * inverse)
            result.addcmul_(change, shares[-1], value=-1)
        result *= self.scale
        for step, change, inverse in self._pairs:
            result.addcmul_(step, shares.pop() - change.dot(result) * inverse)
        return result


class Optimiser(Protocol):
    """What moves an image (1, 3, H, W) in [0, 1] down a gradient."""

    averaged: ClassVar[float]
    """Decay of the moving average that is the result; 0 for the iterates themselves."""
    jitter: ClassVar[int]
    """Largest random shift of a step, in pixels; it prevents grain."""
    image: Tensor
    """The latest iterate."""

    def __init__(self, image: Tensor, before: Optimiser | None = None):
        """Start from an image. `before` is the optimiser of the scale before, if any."""

    def step(self, gradient: Tensor, loss: Tensor, progress: float) -> None:
        """Move the image. `gradient` and `loss`, (), are those of `image`; `progress` through the scale is in (0, 1]."""

    def moved(self, area: Area, gradient: Tensor) -> Tensor | None:
        """Return an area of the image after the next step, as far as it follows from the gradient there; None if it does not."""

    def forget_loss(self) -> None:
        """Drop what depends on a loss that has changed."""


class LBFGS(Optimiser):
    """L-BFGS whose steps have length 1, except for the very first: the loss is evaluated once in a step.

    The first step of a larger scale is along the gradient, and as long as the mean curvature of the scale before says. Differs from Crowson (2021): the image is clamped to [0, 1] here too, and converges in fewer steps.
    """

    averaged: ClassVar[float] = 0.0
    jitter: ClassVar[int] = 0  # Shifts would enter the estimate of the curvature.

    def __init__(self, image: Tensor, before: Optimiser | None = None):
        self.image = image
        self._curvature, self._latest = self._fresh()
        if isinstance(before, LBFGS):  # Each of n times as many pixels has an n-th of the loss, and of the curvature.
            self._curvature.scale = before._curvature.scale * (image.numel() / before.image.numel())

    def step(self, gradient: Tensor, loss: Tensor, progress: float) -> None:
        gradient = gradient.flatten()
        if self._latest is not None:
            step, before = self._latest
            self._curvature.add(step, gradient - before)
        first = gradient * -first_step(gradient, loss)
        step = torch.where(self._curvature.scale > 0, self._curvature.direction(gradient), first)
        self._latest = step, gradient
        self.image = (self.image + step.view_as(self.image)).clamp_(0, 1)

    def moved(self, area: Area, gradient: Tensor) -> Tensor:
        """Return an area after a step down the gradient, as long as the mean curvature says. The history needs the whole gradient."""
        return self.image[(..., *area)] - self._curvature.scale * gradient

    def forget_loss(self) -> None:
        """Drop the history: gradients of the old loss give no curvature of the new one."""
        self._curvature, self._latest = self._fresh()

    def _fresh(self) -> tuple[Curvature, tuple[Tensor, Tensor] | None]:
        """Return an empty history, and no latest (step, gradient)."""
        return Curvature(history_length(self.image.nbytes), self.image.device), None


def first_step(gradient: Tensor, loss: Tensor) -> Tensor:
    """Return the length of a step of L-BFGS that knows a gradient and no curvature, ().

    The mean change is `FIRST_STEP`, or less if the linear extrapolation of the loss reaches 0 before.
    """
    wanted = FIRST_STEP * gradient.numel() / gradient.abs().sum().clamp_min(TINY)
    return torch.minimum(wanted, loss / gradient.square().sum().clamp_min(TINY))


class Adam(Optimiser):
    """Adam (Kingma & Ba, 2015), slower at the end of a scale."""

    averaged: ClassVar[float] = 0.9
    jitter: ClassVar[int] = 4

    def __init__(self, image: Tensor, before: Optimiser | None = None):
        self.image = image.clone()
        self._adam = torch.optim.Adam([self.image], betas=(0.9, 0.99))
        if isinstance(before, Adam):
            self._adam.state[self.image].update(resized(before.moments, size_of(image)))

    @property
    def moments(self) -> dict[str, Tensor]:
        """The state for each pixel, by the names of `MOMENTS`; empty before the first step."""
        return self._adam.state[self.image]

    def step(self, gradient: Tensor, loss: Tensor, progress: float) -> None:
        self.image.grad = gradient
        self._adam.param_groups[0]["lr"] = STEP_SIZE * (1 - 0.8 * progress)  # Settle before the next scale.
        self._adam.step()
        self.image.clamp_(0, 1)

    def moved(self, area: Area, gradient: Tensor) -> None:
        """Return None: the gradient is that of a shifted image, and the result an average of several."""

    def forget_loss(self) -> None:
        """Keep everything: Adam adapts to another loss within a few steps."""


OPTIMISERS: dict[str, type[Optimiser]] = {"lbfgs": LBFGS, "adam": Adam}


class Descent:
    """L-BFGS with backtracking: evaluate the loss at `trial`, call `accept`, repeat. `point` is the best so far.

    Every evaluation is a step, accepted or not, so that the host decides nothing. Differs from the line search of
    `torch.optim.LBFGS`, which ends at the strong Wolfe conditions: it needs about as many evaluations, and reads each of them back.
    """

    def __init__(self, point: Tensor, history: int):
        self.trial = point.detach().flatten()
        self.point, self.loss = self.trial, torch.full((), torch.inf, device=point.device)
        self._gradient = torch.zeros_like(self.trial)
        self._curvature = Curvature(history, point.device)
        self._slope: Tensor | None = None
        """The change of the loss that the gradient predicts for the step from `point` to `trial`, (); None at the start."""

    def accept(self, loss: Tensor, gradient: Tensor) -> None:
        """Take the loss, (), and the gradient (N,) of `trial`. Move `point` there if the loss is less, and choose another `trial`."""
        step = self.trial - self.point
        if self._slope is None:
            accepted, shorter = loss.isfinite(), loss.new_zeros(())
        else:
            accepted = loss <= self.loss + DECREASE * self._slope
            parabola = -self._slope / (2 * (loss - self.loss - self._slope))  # Where the parabola through both is least.
            shorter = parabola.nan_to_num(SHORTER[0]).clamp(*SHORTER)
            gradient = torch.where(accepted, gradient, self._gradient)
            self._curvature.add(step, gradient - self._gradient)
        self.point = torch.where(accepted, self.trial, self.point)
        self.loss = torch.where(accepted, loss, self.loss)
        self._gradient = gradient
        first = gradient * (-self.loss / gradient.square().sum().clamp_min(TINY))  # To a loss of 0, if it were linear.
        onward = torch.where(self._curvature.scale > 0, self._curvature.direction(gradient), first)
        step = torch.where(accepted, onward, step * shorter)
        self._slope = step.dot(gradient)
        self.trial = self.point + step
