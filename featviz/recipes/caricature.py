"""Caricature: a picture made from noise in which a layer sees what it sees in a picture, exaggerated."""

from typing import ClassVar

import torch
from torch import Tensor

from featviz.networks.network import Network
from featviz.networks.table import Address, split
from featviz.optimise import tiles
from featviz.optimise.objectives import caricature
from featviz.optimise.parameterization import Spectrum
from featviz.optimise.scaling import fit, fitted_size, size_of
from featviz.recipes.maximise import maximise
from featviz.recipes.recipe import IMAGE_BYTES, Demand, Frames, Recipe, opening_bytes, param

IMAGES_HELD = 8
"""Images and spectra of the size of the picture that are held at once; Adam remembers two of them."""


class Caricature(Recipe):
    """Exaggerate what a layer sees in a picture, where it sees it (Olah et al., 2018, and Lucid's caricatures)."""

    name: ClassVar[str] = "caricature"
    title: ClassVar[str] = "Caricature"
    tab_group: ClassVar[str] = "Look Inside"
    has_tab: ClassVar[bool] = False
    action: ClassVar[str] = "Draw the caricature"
    explanation: ClassVar[str] = """\
Feature accentuation asks one channel. This asks **a whole layer**.

1. **Compute the activations** of the layer for your picture.
2. **Start with noise**, and change it until its activations point in the same direction and are as large as possible.
3. What the layer saw strongly becomes stronger, and what it did not see is missing.
"""
    images: ClassVar[dict[str, str]] = {"image": "The picture whose activations are exaggerated."}
    keeps_alpha: ClassVar[bool] = False

    layer: Address = param("efficientnet_lite0/block6", "Network and layer whose activations are exaggerated.")
    likeness: float = param(
        2.0, "How much the proportions of the activations count against their strength.", ge=0, le=10, step=0.1
    )
    size: int = param(224, "Longest side of the result, in pixels.", ge=64, le=512, step=16)
    steps: int = param(48, "Steps of gradient ascent.", ge=1, le=500)
    robustness: float = param(
        0.5, "How much the picture is moved, turned and scaled at each step, which keeps noise out.", ge=0, le=3, step=0.1
    )
    seed: int = param(0, "Seed of the noise and of these movements.", ge=0, le=2**31 - 1)

    @property
    def network_name(self) -> str:
        return split(self.layer)[0]

    def run(self, network: Network, *, image: Tensor) -> Frames:
        """Yield a frame after each step. `image` is (1, 3, H, W) in [0, 1].

        Raises:
            InputError: the picture is too small for the network.
        """
        image = fit(image, self.size, network.spec.smallest)
        _, layer = split(self.layer)
        with torch.no_grad():
            target = network.activations(image, [layer])[layer]
        generator = torch.Generator().manual_seed(self.seed)
        yield from maximise(
            caricature(layer, target, self.likeness),
            Spectrum.noise(size_of(image), generator, network.device),
            network,
            steps=self.steps,
            robustness=self.robustness,
            generator=generator,
        )

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        height, width = fitted_size(size, self.size)
        _, layer = split(self.layer)
        cost, pixels = network.cost({layer}), height * width
        return Demand(
            flops=pixels * self.steps * cost.flops,
            bytes=max(tiles.resident(pixels * (cost.bytes + IMAGES_HELD * IMAGE_BYTES)) + cost.fixed_bytes, opening_bytes(size)),
            fixed_work=self.steps * cost.fixed_work,
        )
