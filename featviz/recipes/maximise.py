"""Maximise an objective over a parameterization of images: feature visualisation in general."""

import torch
from torch import Tensor
from torch.nn import functional

from featviz.errors import InputError
from featviz.networks.cache import load
from featviz.networks.network import Network
from featviz.networks.relu_gradients import RedirectedReLU
from featviz.networks.table import NETWORKS
from featviz.optimise.objectives import Objective
from featviz.optimise.parameterization import Parameterization
from featviz.optimise.transfers import Read
from featviz.optimise.transforms import Wobble
from featviz.recipes.recipe import Frame, Frames

STEP_SIZE, TOTAL_DISTANCE = 0.16, 6.4
"""Greatest learning rate of Adam on a `Spectrum`, and the sum over all steps. With larger ones, colours only get harsher."""


def maximise(
    objective: Objective,
    parameterization: Parameterization,
    network: Network | None = None,
    *,
    steps: int = 64,
    robustness: float = 1.0,
    step_size: float | None = None,
    generator: torch.Generator | None = None,
) -> Frames:
    """Change the parameters of images by Adam until an objective is as large as possible (Olah et al., 2017).

    Yields a frame after each step; `frame.image` is (B, 3, H, W) in [0, 1], all images of the parameterization. `frame.gradient`
    is that of the objective with respect to the images before the step.

    Before each step the images are moved, scaled and turned at random, by `robustness` times 10 pixels, a tenth, and 10
    degrees, which prevents noise. `step_size` is Adam's learning rate in the first half of the steps; it falls to 0 in the
    second. The gradient of each image is normalised to length 1. An image whose gradient is 0, because its channel is inactive
    everywhere, gets the gradient of redirected ReLUs from the next step on.

    Args:
        objective: what to maximise. Without `network`, its addresses have to name one.
        parameterization: the images, e.g. `Spectrum.noise((224, 224))`. It is changed in place.
        network: by default the one that the objective names, on the device of the parameters.
        generator: for the random transforms, on the CPU; without one, the seed is 0.

    Raises:
        FieldError: the network has no such layer or channel.
        InputError: no network is named, or another than `network`; the images are smaller than the network accepts.
        WeightsError: the weights of the network cannot be downloaded or read.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}; expected at least 1.")
    parameters = [*parameterization.parameters()]
    network = network or load(named_network(objective), parameters[0].device)
    check_objective(objective, network)
    generator = generator or torch.Generator().manual_seed(0)
    rate = min(STEP_SIZE, TOTAL_DISTANCE / steps) if step_size is None else step_size
    optimiser = torch.optim.Adam(parameters, lr=rate)
    latest: Read | None = None
    """Which images had a gradient in the step before, read a step late so that no step waits for the device."""
    for step in range(1, steps + 1):
        optimiser.param_groups[0]["lr"] = rate * min(1, 2 - 2 * step / (steps + 1))
        wobble = Wobble.random(robustness, generator)

        def differentiate(wobble: Wobble = wobble) -> tuple[Tensor, tuple[Tensor, ...]]:
            images = parameterization()
            loss = -objective(network.activations(wobble(images), objective.layers))
            return loss.detach(), torch.autograd.grad(loss, [images, *parameters])

        loss, (image_gradient, *gradients) = differentiate()
        moving = [_nonzero(gradient) for gradient in gradients]
        if latest and not all(image.all() for image in latest.wait()):
            with RedirectedReLU():
                _, (redirected_image, *redirected) = differentiate()
            image_gradient = torch.where(_nonzero(image_gradient), image_gradient, redirected_image)
            gradients = [torch.where(*each) for each in zip(moving, gradients, redirected, strict=True)]
        latest = Read(moving)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # Of length 1: the first gradients of an inactive channel are tiny, and Adam would average over them for long.
            dimensions = tuple(range(1, gradient.ndim)) or (0,)
            parameter.grad = functional.normalize(gradient, dim=dimensions)  # type: ignore[arg-type]  # Several are fine.
        optimiser.step()
        with torch.no_grad():
            images = parameterization()
        yield Frame(step=step, steps=steps, stage="", work=step / steps, loss=loss, image=images, gradient=-image_gradient)


def named_network(objective: Objective) -> str:
    """Return the network that the addresses of an objective name. Raises InputError if they name none."""
    if not objective.network:
        raise InputError(f"The objective {objective} names no network; expected addresses such as 'vgg19/relu4_1'.")
    return objective.network


def check_objective(objective: Objective, network: Network) -> None:
    """Check an objective against a network, whose weights are not needed.

    Raises:
        FieldError: the network has no such layer or channel.
        InputError: the objective names another network.
    """
    if objective.network and NETWORKS.get(objective.network) is not network.spec:
        raise InputError(f"The objective {objective} is one of '{objective.network}'; this network is {network.spec.title}.")
    for _, term in objective.terms:
        for layer in term.layers:
            network.check_channels(layer, term.channels if layer == term.layers[0] else ())


def _nonzero(gradient: Tensor) -> Tensor:
    """Return whether the gradient of each image is not 0, (B, 1, …), as many dimensions as the gradient (B, …)."""
    return gradient.reshape(len(gradient), -1).any(1).view(-1, *[1] * (gradient.ndim - 1))
