"""Feature accentuation: a picture changed until a channel responds more to what it already responds to there."""

from functools import partial
from typing import ClassVar

import torch
from pydantic import model_validator
from torch import Tensor

from featviz.networks.network import Network
from featviz.networks.table import INPUT, LOGITS, Address, check_class, class_index, split
from featviz.optimise import tiles
from featviz.optimise.gradients import blur
from featviz.optimise.objectives import Objective, channel, objective, relative_distance
from featviz.optimise.parameterization import Beside, Spectrum
from featviz.optimise.scaling import fit, fitted_size
from featviz.recipes.activation_maps import heat
from featviz.recipes.maximise import maximise
from featviz.recipes.recipe import IMAGE_BYTES, Demand, Frames, Recipe, Rule, opening_bytes, param

STEP_SIZE = 0.02
"""Learning rate of Adam on the spectrum at strength 1. Feature visualisation, which starts at grey, takes steps eight times larger."""

SMOOTH = 0.01
"""Standard deviation of the blur of the map of where it acted, relative to the longest side."""

IMAGES_HELD = 10
"""Images and spectra of the size of the picture that are held at once; Adam remembers two of them."""


class FeatureAccentuation(Recipe):
    """Show what a channel responds to in a picture, by making it respond more, near the picture (Hamblin et al., 2024)."""

    name: ClassVar[str] = "feature_accentuation"
    title: ClassVar[str] = "Feature Accentuation"
    tab_group: ClassVar[str] = "Look Inside"
    has_tab: ClassVar[bool] = False
    action: ClassVar[str] = "Show what it sees here"
    explanation: ClassVar[str] = """\
Feature visualization shows what a channel looks for anywhere. This shows **what it sees in your picture**.

1. **Start with the picture**, as a sum of frequencies.
2. **Change it until the channel responds more**, moved, turned and scaled a little at each step.
3. **Hold it near the picture**: the activations of a layer halfway to the channel shall stay as they were. So what is
   there already becomes clearer, and nothing new is drawn.

*Try it: the map. It shows where in the picture the gradient has acted.*
"""
    images: ClassVar[dict[str, str]] = {"image": "The picture to start from."}
    rules: ClassVar[tuple[Rule, ...]] = (Rule(("channel",), "the class is shown and no channel", beside="class_name"),)

    layer: Address = param("efficientnet_lite0/block9", "Network and layer of the channel.")
    channel: int = param(93, "Number of the channel in its layer.", ge=0, le=4095)
    class_name: str = param(
        "",
        "An ImageNet class instead of a channel, e.g. 'tabby'; needs a network that classifies.",
        longest=100,
        group="What",
    )
    hold: float = param(1.0, "How near the result stays to the picture.", ge=0, le=10, step=0.1)
    strength: float = param(1.0, "How much each step changes.", ge=0.1, le=4, step=0.1)
    map: bool = param(False, "Show where it has acted, as a heat map.", group="What")
    size: int = param(224, "Longest side of the result, in pixels.", ge=64, le=512, step=16, group="How")
    steps: int = param(32, "Steps of gradient ascent.", ge=1, le=500, usual=128, group="How")
    robustness: float = param(
        1.0,
        "How much the picture is moved, turned and scaled at each step, which keeps noise out.",
        ge=0,
        le=3,
        step=0.1,
        group="How",
    )
    seed: int = param(0, "Seed of these movements.", ge=0, le=2**31 - 1, group="How")

    @model_validator(mode="after")
    def _check_together(self) -> "FeatureAccentuation":
        check_class(self.network_name, self.class_name)
        return self

    @property
    def network_name(self) -> str:
        return split(self.layer)[0]

    @property
    def place(self) -> tuple[str, int]:
        """The layer, without its network, and the channel in it."""
        if self.class_name:
            return LOGITS, class_index(self.class_name, self.network_name)
        return split(self.layer)[1], self.channel

    def check_network(self, network: Network) -> None:
        layer, index = self.place
        network.check_channels(layer, [index])

    def run(self, network: Network, *, image: Tensor) -> Frames:
        """Yield a frame after each step. `image` is (1, 3, H, W) in [0, 1].

        Raises:
            FieldError: the layer has no such channel.
            InputError: the picture is too small for the network.
        """
        self.check_network(network)
        image = fit(image, self.size, network.spec.smallest)
        layer, index = self.place
        goal = accentuation(layer, index, held_layer(network, layer), self.hold)
        acted = torch.zeros_like(image[:, :1])
        for frame in maximise(
            goal,
            Beside(Spectrum.of(image), image),
            network,
            steps=self.steps,
            robustness=self.robustness,
            step_size=STEP_SIZE * self.strength,
            generator=torch.Generator().manual_seed(self.seed),
        ):
            assert frame.gradient is not None  # `maximise` gives it.
            gradient = frame.gradient[:1]
            acted = acted + gradient.abs().mean(1, keepdim=True)
            result = frame.image[:1]
            shown = partial(acted_map, acted, image) if self.map else result
            stage = self.class_name or f"channel {self.channel}"
            yield frame.replace(stage=stage, image=shown, gradient=gradient)

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        height, width = fitted_size(size, self.size)
        layer, _ = self.place
        cost, pixels = network.cost({layer, held_layer(network, layer)}), 2 * height * width
        held = pixels * (cost.bytes + IMAGES_HELD / 2 * IMAGE_BYTES)
        return Demand(
            flops=pixels * self.steps * cost.flops,
            bytes=max(tiles.resident(held) + cost.fixed_bytes, opening_bytes(size)),
            fixed_work=self.steps * cost.fixed_work,
        )


def accentuation(layer: str, index: int, held: str, hold: float) -> Objective:
    """Return the objective of a batch of two: the image that changes, and the one that it is held near.

    The activation of channel `index` of a layer, minus `hold` times the relative distance of the two at the layer `held`, weighed
    by the activation, so that `hold` counts alike on every network and layer.
    """

    @objective(layer, held, channels=[index])
    def accentuated(values: Tensor, held_values: Tensor) -> Tensor:
        activation = channel(layer, index)({layer: values[:1]})
        distance = relative_distance(held_values[:1], held_values[1:].detach())
        return activation - hold * activation.detach().abs() * distance

    return accentuated


def held_layer(network: Network, layer: str) -> str:
    """Return the layer halfway between the image and a layer; the image itself for the first one."""
    layers = list(network.spec.layers)
    position = len(layers) if layer == LOGITS else layers.index(layer)
    return layers[position // 2] if position else INPUT


def acted_map(acted: Tensor, image: Tensor) -> Tensor:
    """Return a heat map (1, 3, H, W) of absolute gradients (1, 1, H, W), summed over the steps, over the image."""
    return heat(blur(acted, max(1.0, SMOOTH * max(image.shape[-2:])))[:, 0], image)
