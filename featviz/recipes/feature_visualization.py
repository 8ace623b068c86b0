"""Feature visualisation: a picture made from noise that activates a channel most."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from featviz.networks.network import Network
from featviz.networks.table import LOGITS, Address, check_class, class_index, split
from featviz.optimise import tiles
from featviz.optimise.gradients import blur
from featviz.optimise.objectives import Objective, channel, diversity, neuron, objective
from featviz.optimise.parameterization import Phases, Spectrum
from featviz.optimise.precision import TINY
from featviz.recipes.maximise import maximise
from featviz.recipes.objective_recipe import ObjectiveRecipe
from featviz.recipes.recipe import IMAGE_BYTES, Demand, Frames, Rule, param

IMAGES_HELD = 8
"""Images and spectra that are held at once; Adam remembers two of them."""

PARAMETERIZATIONS: Mapping[str, tuple[type[Spectrum] | type[Phases], float | None]] = {
    "spectrum": (Spectrum, None),
    "phases": (Phases, 0.4),
}
"""Name → what is optimised, and Adam's learning rate, None for that of `maximise`."""

OPAQUE, SMOOTH = 0.8, 0.02
"""The share of the pixels that fade at all; and the standard deviation of the blur of the summed gradients, relative to the side."""


class FeatureVisualization(ObjectiveRecipe):
    """Show what a channel of a trained network looks for, as a picture made from noise (Olah et al., 2017)."""

    name: ClassVar[str] = "feature_visualization"
    title: ClassVar[str] = "Feature Visualization"
    tab_group: ClassVar[str] = "Look Inside"
    action: ClassVar[str] = "See what it looks for"
    explanation: ClassVar[str] = """\
How do you find out what a detector looks for? **Make the picture that activates it most.**

1. **Start with noise**, almost grey.
2. **Measure the activation** of one channel, and compute the gradient back to the picture, as in DeepDream.
3. **Move, turn and scale** the picture a little at each step. A pattern that activates the network only at one exact place
   is noise; the patterns that remain are those that the channel really looks for.
4. **Change waves instead of pixels.** The picture is a sum of frequencies, so that large shapes grow as easily as
   small ones.

*Try it: the same channel as several pictures. A channel often looks for more than one pattern.*
"""
    images: ClassVar[dict[str, str]] = {}
    rules: ClassVar[tuple[Rule, ...]] = (Rule(("channel",), "the class is shown and no channel", beside="class_name"),)
    objective_rule: ClassVar[Rule] = Rule(
        ("layer", "channel", "class_name", "answers", "diversity"), "it is maximised instead", beside="objective"
    )

    layer: Address = param("efficientnet_lite0/block9", "Network and layer of the channel.")
    channel: int = param(93, "Number of the channel in its layer.", ge=0, le=4095)
    class_name: str = param(
        "",
        "An ImageNet class instead of a channel, e.g. 'hummingbird'; needs a network that classifies.",
        longest=100,
        group="What",
    )
    answers: Literal["channel", "neuron"] = param(
        "channel", "What is maximised: the channel at all positions, or its neuron at the centre.", group="What"
    )
    pictures: int = param(1, "Pictures side by side, all of the same channel.", ge=1, le=6)
    diversity: float = param(1.0, "How different several pictures are made from each other.", ge=0, le=10, step=0.1, group="What")
    size: int = param(224, "Side of each picture, in pixels.", ge=32, le=512, step=16, group="How")
    parameterization: Literal["spectrum", "phases"] = param(
        "spectrum",
        "What is optimised: all of the spectrum, or its phases alone, with the magnitudes of natural pictures.",
        group="How",
    )
    transparency: bool = param(False, "Fade to white where the gradients of all steps were small.", group="How")
    steps: int = param(64, "Steps of gradient ascent: more are clearer and take longer.", ge=1, le=1000, usual=256, group="How")
    robustness: float = param(
        1.0,
        "How much the picture is moved, turned and scaled at each step, which keeps noise out.",
        ge=0,
        le=3,
        step=0.1,
        group="How",
    )
    seed: int = param(0, "Seed of the noise: the same seed gives the same picture.", ge=0, le=2**31 - 1, group="How")

    @model_validator(mode="after")
    def _check_together(self) -> "FeatureVisualization":
        check_class(self.network_name, self.class_name)
        return self

    @property
    def network_name(self) -> str:
        return split(self.layer)[0] if self.objective is None else self.objective.network

    def check_network(self, network: Network) -> None:
        super().check_network(network)
        if self.objective is None:
            layer, index = self.place
            network.check_channels(layer, [index])

    @property
    def place(self) -> tuple[str, int]:
        """The layer, without its network, and the channel in it."""
        if self.class_name:
            return LOGITS, class_index(self.class_name, self.network_name)
        return split(self.layer)[1], self.channel

    def run(self, network: Network) -> Frames:
        """Yield a frame after each step: one picture, or several side by side.

        Raises:
            FieldError: the layer has no such channel.
            InputError: the size is smaller than the network can see.
        """
        self.check_network(network)
        generator = torch.Generator().manual_seed(self.seed)
        noise = self.noise(generator, network, self.pictures)
        goal = self.field_objective([self.place[1]] * self.pictures) if self.objective is None else self.objective
        yield from self.ascend(network, noise, goal, generator)

    def each(self, network: Network, channels: Sequence[int]) -> Frames:
        """Yield a frame after each step for many channels of the layer at once: the pictures that `run` makes for each of them.

        All start from the same noise.
        """
        generator = torch.Generator().manual_seed(self.seed)
        noise = self.noise(generator, network, 1).repeated(len(channels))
        yield from self.ascend(network, noise, self.field_objective(channels), generator)

    def noise(self, generator: torch.Generator, network: Network, batch: int) -> Spectrum | Phases:
        """Return images that are noise, in the chosen parameterization."""
        kind, _ = PARAMETERIZATIONS[self.parameterization]
        return kind.noise((self.size, self.size), generator, network.device, batch=batch)

    def ascend(self, network: Network, noise: Spectrum | Phases, goal: Objective, generator: torch.Generator) -> Frames:
        """Maximise an objective, with its images side by side in the frames."""
        stage = "objective" if self.objective is not None else self.class_name or f"channel {self.channel}"
        _, rate = PARAMETERIZATIONS[self.parameterization]
        frames = maximise(goal, noise, network, steps=self.steps, robustness=self.robustness, step_size=rate, generator=generator)
        acted: Tensor | float = 0.0
        for frame in frames:
            images: Callable[[], Tensor] = partial(getattr, frame, "image")
            if self.transparency:
                assert frame.gradient is not None  # `maximise` gives it.
                acted = acted + frame.gradient.abs().mean(1, keepdim=True)
                images = partial(faded, frame.image, acted)
            yield frame.replace(stage=stage, image=partial(side_by_side, images))

    def field_objective(self, channels: Sequence[int]) -> Objective:
        """Return the objective of the fields, with a channel for each image of the batch.

        Diversity is weighed by the activation itself, so that it counts alike on every network and layer. Differs from Olah et
        al. (2017).
        """
        layer, _ = self.place
        address = f"{self.network_name}/{layer}"
        activation = {"channel": channel, "neuron": neuron}[self.answers](address, channels)
        if self.pictures == 1 or not self.diversity:
            return activation
        unlikeness = diversity(address)

        @objective(address)
        def diverse(values: Tensor) -> Tensor:
            value = activation({layer: values})
            return value + self.diversity * value.detach().abs() * unlikeness({layer: values})

        return diverse

    def demand(self, network: Network, size: None, **others: tuple[int, int]) -> Demand:
        layers = {self.place[0]} if self.objective is None else self.objective.layers
        cost, pixels = network.cost(layers), self.pictures * self.size**2
        held = pixels * (cost.bytes + IMAGES_HELD * IMAGE_BYTES)
        return Demand(
            flops=pixels * self.steps * cost.flops,
            bytes=tiles.resident(held) + cost.fixed_bytes,
            fixed_work=self.steps * cost.fixed_work,
        )


def side_by_side(images: Callable[[], Tensor]) -> Tensor:
    """Return images (B, 3, H, W) as one, (1, 3, H, B · W)."""
    return torch.cat(list(images().split(1)), dim=3)


def faded(images: Tensor, acted: Tensor) -> Tensor:
    """Return images (B, 3, H, W) that fade to white where absolute gradients (B, 1, H, W), summed over the steps, are small.

    The opacity is their sum, smoothed, as a share of its quantile `OPAQUE` (Fel et al., 2023).
    """
    smooth = blur(acted, max(1.0, SMOOTH * images.shape[-1]))
    full = smooth.flatten(1).quantile(OPAQUE, dim=1).clamp_min(TINY).view(-1, 1, 1, 1)
    return torch.lerp(torch.ones_like(images), images, (smooth / full).clamp(0, 1))
