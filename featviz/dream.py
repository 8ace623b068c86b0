"""DeepDream: amplify what a layer already sees in a picture."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from featviz.images import fit, resize
from featviz.networks import ADDRESSES, Network, split
from featviz.objectives import Objective, energy
from featviz.parameterization import pyramid
from featviz.recipe import Frame, Recipe, param
from featviz.transforms import Roll


class DeepDream(Recipe):
    """Amplify what a layer of a trained network already sees in a picture (Mordvintsev et al., 2015)."""

    name: ClassVar[str] = "deepdream"
    title: ClassVar[str] = "DeepDream"
    images: ClassVar[dict[str, str]] = {"image": "The picture to dream on."}

    layer: Literal[ADDRESSES] = param(
        "vgg19/relu4_4",
        "Network and layer to amplify: early layers see edges and textures, later ones eyes and animals.",
        advanced=False,
    )
    strength: float = param(2.5, "Mean change of a pixel in each step, of 255.", ge=0.1, le=10, step=0.1, advanced=False)
    steps: int = param(6, "Steps of gradient ascent in each octave.", ge=1, le=100, advanced=False)
    octaves: int = param(4, "Sizes the picture passes through, small to large: more give larger structures.", ge=1, le=10)
    octave_scale: float = param(1.5, "Ratio between the sizes of two octaves.", ge=1.1, le=2.0, step=0.05)
    size: int = param(400, "Longest side of the result, in pixels.", ge=64, le=2048, step=16, advanced=False)
    jitter: int = param(32, "Random shift of each step, in pixels, which keeps patterns from locking onto a grid.", ge=0, le=128)
    seed: int = param(0, "Seed of the random shifts: the same seed gives the same picture.", ge=0, le=2**31 - 1)

    @property
    def network_name(self) -> str:
        return split(self.layer)[0]

    def run(self, network: Network, *, image: Tensor) -> Iterator[Frame]:
        """Yields a frame after each step of each octave. `image` is (1, 3, H, W) in [0, 1]."""
        generator = torch.Generator().manual_seed(self.seed)
        objective = energy(split(self.layer)[1])
        image = fit(image, self.size, network.spec.smallest)
        octaves = pyramid(tuple(image.shape[-2:]), self.octaves, self.octave_scale, network.spec.smallest)
        pixels = [height * width for height, width in octaves]
        dreamt = torch.zeros_like(image)  # What the dream has added to the picture so far.

        for octave, size in enumerate(octaves):
            base = resize(image, size)
            dream = (base + resize(dreamt, size)).clamp(0, 1)  # The picture's own detail enters sharp at every octave.
            for step in range(1, self.steps + 1):
                roll = Roll.random(self.jitter, generator)
                value, gradient = ascent(network, objective, roll(dream))
                gradient = roll.undo(gradient)
                dream = (dream + self.strength / 255 * gradient / gradient.abs().mean().clamp_min(1e-12)).clamp(0, 1)
                yield Frame(
                    step=octave * self.steps + step,
                    steps=len(octaves) * self.steps,
                    stage=f"octave {octave + 1} of {len(octaves)}",
                    work=(sum(pixels[:octave]) + pixels[octave] * step / self.steps) / sum(pixels),
                    loss=-value,
                    image=dream,
                )
            dreamt = dream - base


def ascent(network: Network, objective: Objective, image: Tensor) -> tuple[Tensor, Tensor]:
    """The objective's value () and its gradient with respect to the image (1, 3, H, W)."""
    image = image.detach().requires_grad_()
    value = objective(network.activations(image, objective.layers))
    (gradient,) = torch.autograd.grad(value, image)
    return value.detach(), gradient
