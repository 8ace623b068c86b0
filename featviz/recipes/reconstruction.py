"""Reconstruction of a picture from a layer's activations, or from their correlations, starting from noise."""

import math
from collections.abc import Mapping
from functools import partial, reduce
from operator import add
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from featviz.networks.cache import scales
from featviz.networks.network import Network
from featviz.networks.table import Address, NetworkName, split
from featviz.optimise import tiles
from featviz.optimise.objectives import Activations, Objective, content_distance, gram, style_distance
from featviz.optimise.optimisers import Descent
from featviz.optimise.parameterization import Spectrum
from featviz.optimise.scaling import fit, fitted_size, size_of
from featviz.recipes.recipe import IMAGE_BYTES, Demand, Frame, Frames, Recipe, opening_bytes, param

HISTORY = 20
"""Evaluations that L-BFGS stores."""

IMAGES_HELD = 8
"""Images and spectra that are in memory at once, without those that L-BFGS stores."""

MAX_LAYERS = 5
"""The most layers that a style is rebuilt from."""

HEAP_SHARE = 1.0
"""Free blocks of the heap relative to the live tensors, as in `tiles`. Measured: larger here, since a step is six evaluations."""

ROUND = 6
"""Evaluations of L-BFGS per step."""

EVENNESS = 0.7
"""Exponent of the 1/f scaling of the spectrum in style reconstruction. Below 1, since textures have more high frequencies than
photographs; they converge faster with it."""


class ReconstructContent(Recipe):
    """Rebuild a picture from noise out of one layer's activations alone: what the layer has kept of it (Gatys et al., 2016)."""

    name: ClassVar[str] = "reconstruct_content"
    title: ClassVar[str] = "Reconstruct Content"
    tab_group: ClassVar[str] = "Look Inside"
    action: ClassVar[str] = "Rebuild from one layer"
    sweep_action: ClassVar[str] = "Compare the depths"
    sweep_caption: ClassVar[str] = (
        "From shallow to deep. Early layers keep every pixel. Later layers keep what is where, but not exactly how it"
        " looked. Each caption has the layer and the similarity in decibels: above 30 you hardly see a difference."
    )
    explanation: ClassVar[str] = """\
What does a layer *know* about your picture? Keep only its activations, start from noise, and change the noise
until the activations are the same. **You see again only what the layer has kept.**

Early layers give back every pixel. Deep layers give back what is where, but the exact colours and textures are lost: they
do not matter for telling a cat from a dog. That is why style transfer takes its *content* from a deep layer.
"""
    images: ClassVar[dict[str, str]] = {"image": "The picture to rebuild."}
    sweep_fields: ClassVar[tuple[str, ...]] = ("layer",)
    measure_label: ClassVar[str] = "{:.1f} dB"
    measure_sentence: ClassVar[str] = (
        "Similarity to the picture: {:.1f} decibels. Above 30 you hardly see a difference; below 20 details are lost."
    )

    layer: Address = param("vgg19/relu4_1", "Network and layer whose activations are all that is left of the picture.")
    size: int = param(160, "Longest side of the result, in pixels.", ge=64, le=512, step=16)
    steps: int = param(
        12, "Steps of the optimiser, of six evaluations each: more come closer and take longer.", ge=1, le=200, usual=60
    )
    seed: int = param(0, "Seed of the noise: the same seed gives the same picture.", ge=0, le=2**31 - 1, group="How")

    @property
    def network_name(self) -> str:
        return split(self.layer)[0]

    def variants(self) -> list[Recipe]:
        """Return the recipe for the first layer at each resolution of the network, shallow to deep."""
        return [self.replace(layer=f"{self.network_name}/{layer}") for layer in scales(self.network_name)]

    def run(self, network: Network, *, image: Tensor) -> Frames:
        """Yield a frame after each step, with the measure `psnr` in decibels. `image` is (1, 3, H, W) in [0, 1].

        The loss is `content_distance` (Gatys et al., 2016, eq. 1).

        Raises:
            FieldError: the network has no such layer.
            InputError: the picture is too small for the network.
        """
        image, layer = fit(image, self.size, network.spec.smallest), split(self.layer)[1]
        with torch.no_grad():
            distance = content_distance(network.activations(image, [layer]))
        for frame in descend(network, distance, noise(image, self.seed), self.steps):
            yield frame.replace(stage=f"out of {layer}", measures=partial(similarity, frame, image))

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        return demanded(network, {split(self.layer)[1]}, size, self.size, self.steps)


class ReconstructStyle(Recipe):
    """Rebuild a style from noise out of the correlations between feature maps alone: texture without arrangement (Gatys et al., 2016)."""

    name: ClassVar[str] = "reconstruct_style"
    title: ClassVar[str] = "Reconstruct Style"
    tab_group: ClassVar[str] = "Look Inside"
    action: ClassVar[str] = "Rebuild from correlations"
    sweep_action: ClassVar[str] = "Compare one to five layers"
    sweep_caption: ClassVar[str] = (
        "One layer gives only colours and grain. Each deeper layer adds larger strokes and shapes. The places of "
        "things in the picture are lost."
    )
    explanation: ClassVar[str] = """\
Now keep even less: not where each channel is active, only **which channels are active together**. These correlations, the
*Gram matrix*, are summed over the whole picture, so every place in it is lost.

From noise and these numbers alone, the texture comes back: with one layer only colours and grain, with deeper ones strokes,
then whole shapes. The arrangement does not come back. That is why style transfer takes its *style* from here.
"""
    images: ClassVar[dict[str, str]] = {"style": "The picture whose style is rebuilt."}
    keeps_alpha: ClassVar[bool] = False
    opacity_roles: ClassVar[tuple[str, ...]] = ("style",)
    sweep_fields: ClassVar[tuple[str, ...]] = ("layers",)
    measure_label: ClassVar[str] = "{:.0f}× nearer"
    measure_sentence: ClassVar[str] = "The correlations are {:.0f} times nearer to those of the picture than at the start."

    layers: int = param(
        4,
        "How many layers take part, one at each resolution, from the first on: more keep larger structures.",
        ge=1,
        le=MAX_LAYERS,
    )
    size: int = param(160, "Longest side of the result, in pixels.", ge=64, le=512, step=16)
    steps: int = param(
        20, "Steps of the optimiser, of six evaluations each: more come closer and take longer.", ge=1, le=200, usual=60
    )
    network: NetworkName = param("vgg19", "Network whose correlations are used.", group="How")
    seed: int = param(0, "Seed of the noise: the same seed gives the same picture.", ge=0, le=2**31 - 1, group="How")

    @property
    def network_name(self) -> str:
        return self.network

    @property
    def places(self) -> tuple[str, ...]:
        """The layers whose correlations are used, without their network, shallow to deep."""
        return scales(self.network)[: self.layers]

    def variants(self) -> list[Recipe]:
        """Return the recipe with one layer, with two, and so on. More layers get more steps, since they converge more slowly."""
        most = min(len(scales(self.network)), MAX_LAYERS)
        return [self.replace(layers=layers, steps=4 + 5 * layers) for layers in range(1, most + 1)]

    def run(self, network: Network, *, style: Tensor, opacity: Mapping[str, Tensor] = MappingProxyType({})) -> Frames:
        """Yield a frame after each step, with the measure `nearer`: the distance at the start divided by the distance now.

        This distance of Gram matrices is `plain_distance` (Gatys et al., 2016, eqs. 4 and 5). The loss is `style_distance`
        instead, in which all layers have the same weight.

        Args:
            network: the network named by `network_name`, with its weights.
            style: (1, 3, H, W) in [0, 1].
            opacity: {"style": (1, 1, H, W) in [0, 1]}, the weight of each position of the style; by default all are 1.

        Raises:
            InputError: the picture is too small for the network.
        """
        style, layers = fit(style, self.size, network.spec.smallest), self.places
        opaque = opacity.get("style", style.new_ones(1, 1, 1, 1))
        with torch.no_grad():
            grams = {
                layer: weighed_gram(activations, opaque) for layer, activations in network.activations(style, layers).items()
            }
            start = noise(style, self.seed, EVENNESS)
            far = plain_distance(network.activations(start(), layers), grams)

        def nearness(frame: Frame) -> dict[str, Tensor]:
            return {"nearer": far / plain_distance(network.activations(frame.image, layers), grams)}

        for frame in descend(network, style_distance(grams), start, self.steps):
            yield frame.replace(stage=f"out of {' + '.join(layers)}", measures=partial(nearness, frame))

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        return demanded(network, set(self.places), size, self.size, self.steps)


def noise(image: Tensor, seed: int, decay: float = 1.0) -> Spectrum:
    """Return a random spectrum of the size and on the device of an image (1, 3, H, W), from which a reconstruction starts.

    `decay` is the exponent of the 1/f scaling.
    """
    return Spectrum.noise(size_of(image), torch.Generator().manual_seed(seed), image.device, decay=decay)


def weighed_gram(activations: Tensor, opacity: Tensor) -> Tensor:
    """Return the Gram matrix (1, C, C) of activations (1, C, h, w), with positions weighted by `opacity` (1, 1, H, W) in [0, 1].

    Opacity is scaled to (h, w). The result is divided by the mean weight, so it is `gram` if all weights are equal.
    """
    weights = functional.interpolate(opacity, activations.shape[-2:], mode="bilinear", antialias=True)
    return gram(activations * weights.sqrt()) / weights.mean()


def plain_distance(activations: Activations, grams: Mapping[str, Tensor]) -> Tensor:
    """Return Σ ‖G − A‖² / (4 C²) over the layers, (): the style loss of Gatys et al. (2016, eqs. 4 and 5) with weights of 1.

    `activations` is {layer: (1, C, h, w)}, `grams` is {layer: (1, C, C)}.
    """
    return reduce(add, ((gram(activations[layer]) - target).square().mean() / 4 for layer, target in grams.items()))


def descend(network: Network, distance: Objective, spectrum: Spectrum, steps: int) -> Frames:
    """Minimise a distance of activations over a spectrum, by L-BFGS (Gatys et al., 2016). Yield a frame after each step.

    The spectrum is not changed. Differs from Gatys et al., who optimise pixels: that takes many times as long, and ends at a
    larger distance.
    """
    descent, shape = Descent(spectrum.waves, HISTORY), spectrum.waves.shape
    for step in range(1, steps + 1):
        for _ in range(ROUND):
            with torch.enable_grad():
                waves = descent.trial.view(shape).requires_grad_()
                value = distance(network.activations(spectrum.at(waves), distance.layers))
                (gradient,) = torch.autograd.grad(value, waves)
            descent.accept(value.detach(), gradient.flatten())
        image = partial(spectrum.at, descent.point.view(shape))
        yield Frame(step=step, steps=steps, stage="", work=step / steps, loss=descent.loss, image=image)


def similarity(frame: Frame, image: Tensor) -> dict[str, Tensor]:
    """Return the measure of a reconstruction: its similarity to the picture in decibels."""
    return {"psnr": psnr(frame.image, image)}


def psnr(image: Tensor, target: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of two images in [0, 1] of the same shape, in decibels, ().

    At 20 the images are roughly alike; over 30 they are hard to tell apart. Equal images give 120.
    """
    return -10 * (image - target).square().mean().clamp_min(1e-12).log10()


def demanded(network: Network, layers: set[str], size: tuple[int, int], longest: int, steps: int) -> Demand:
    """Return the demand of `descend` for a picture of (height, width) scaled to `longest` pixels."""
    cost, pixels = network.cost(layers), math.prod(fitted_size(size, longest))
    # L-BFGS stores two spectra per evaluation, each as large as the image.
    held = IMAGE_BYTES * pixels * (IMAGES_HELD + 2 * min(HISTORY, ROUND * steps))
    peak = tiles.resident(pixels * cost.bytes + held, HEAP_SHARE)
    passes = steps * ROUND
    return Demand(
        flops=pixels * passes * cost.flops,
        bytes=max(peak + cost.fixed_bytes, opening_bytes(size)),
        fixed_work=passes * cost.fixed_work,
    )
