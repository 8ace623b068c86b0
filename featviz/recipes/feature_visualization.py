"""Feature visualisation: what does a channel look for? A picture out of noise that it answers to most."""

from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn import functional

from featviz.networks.network import Network
from featviz.networks.relu_gradients import RedirectedReLU
from featviz.networks.table import LOGITS, Address, check_class, class_index, split
from featviz.optimise import tiles
from featviz.optimise.objectives import Activations, Objective, channels, diversity, neurons, objective
from featviz.optimise.parameterization import Spectrum
from featviz.optimise.transforms import Wobble
from featviz.recipes.recipe import IMAGE_BYTES, Demand, Frame, Frames, Recipe, Rule, param

IMAGES_HELD = 8
"""Images and spectra that are held at once: two of them are what Adam remembers."""

STEP_SIZE, JOURNEY = 0.16, 6.4
"""Of Adam, on a spectrum: the most in a step, and in all steps together, beyond which colours only get harsher."""


class FeatureVisualization(Recipe):
    """Show what a channel of a trained network looks for, as a picture made from noise (Olah et al., 2017)."""

    name: ClassVar[str] = "feature_visualization"
    title: ClassVar[str] = "Channels"
    tab_group: ClassVar[str] = "Look Inside"
    images: ClassVar[dict[str, str]] = {}
    rules: ClassVar[tuple[Rule, ...]] = (Rule(("channel",), "the class is shown and no channel", beside="class_name"),)

    layer: Address = param("efficientnet_lite0/block9", "Network and layer of the channel.")
    channel: int = param(93, "Number of the channel in its layer.", ge=0, le=4095)
    class_name: str = param(
        "",
        "An ImageNet class instead of a channel, e.g. 'hummingbird'; needs a network that classifies.",
        longest=100,
        group="What",
    )
    answers: Literal["channel", "neuron"] = param(
        "channel", "Who answers: the channel all over the picture, or its one neuron at the centre.", group="What"
    )
    pictures: int = param(1, "Pictures side by side, each of them another answer.", ge=1, le=6)
    diversity: float = param(1.0, "How hard several pictures try to be unlike each other.", ge=0, le=10, step=0.1, group="What")
    size: int = param(224, "Side of each picture, in pixels.", ge=32, le=512, step=16, group="How")
    steps: int = param(64, "Steps of gradient ascent: more are clearer and take longer.", ge=1, le=1000, group="How")
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
        return split(self.layer)[0]

    def check_network(self, network: Network) -> None:
        layer, channel = self.place
        network.check_channels(layer, [channel])

    @property
    def place(self) -> tuple[str, int]:
        """The layer that answers and the channel in it."""
        return (
            (LOGITS, class_index(self.class_name, self.network_name)) if self.class_name else (split(self.layer)[1], self.channel)
        )

    def run(self, network: Network) -> Frames:
        """Yields a frame after each step: one picture, or several in a row.

        Raises:
            FieldError: the layer has no such channel.
            InputError: the size is smaller than the network can see.
        """
        self.check_network(network)
        layer, channel = self.place
        generator = torch.Generator().manual_seed(self.seed)
        noise = Spectrum.noise((self.size, self.size), generator, network.device, batch=self.pictures)
        yield from self.ascend(network, noise, self.objective(layer, [channel] * self.pictures), generator)

    def each(self, network: Network, wanted: list[int]) -> Frames:
        """The same for many channels of the layer at once, all from the same noise: the pictures `run` makes for each of them."""
        layer, _ = self.place
        generator = torch.Generator().manual_seed(self.seed)
        noise = Spectrum.noise((self.size, self.size), generator, network.device)
        noise = Spectrum(noise.waves.detach().repeat(len(wanted), 1, 1, 1, 1), noise.size)
        yield from self.ascend(network, noise, self.objective(layer, wanted), generator)

    def ascend(self, network: Network, spectrum: Spectrum, objective: Objective, generator: torch.Generator) -> Frames:
        """Change the spectrum until the network answers loudly, however the pictures are moved, turned and scaled."""
        step_size = min(STEP_SIZE, JOURNEY / self.steps)
        optimiser = torch.optim.Adam([spectrum.waves], lr=step_size)
        for step in range(1, self.steps + 1):
            optimiser.param_groups[0]["lr"] = step_size * min(1, 2 - 2 * step / (self.steps + 1))  # Settle in the second half.
            wobble = Wobble.random(self.robustness, generator)

            def climb(wobble: Wobble = wobble) -> tuple[Tensor, Tensor]:
                loss = -objective(network.activations(wobble(spectrum()), objective.layers))
                return loss.detach(), torch.autograd.grad(loss, spectrum.waves)[0]

            loss, gradient = climb()
            if not (heard := gradient.flatten(1).any(1)).all():  # A channel that is silent has no gradient, and stays so.
                with RedirectedReLU():
                    gradient = torch.where(heard.view(-1, 1, 1, 1, 1), gradient, climb()[1])
            # Of length 1, since Adam would remember the first gradients of a channel that was silent for too long.
            spectrum.waves.grad = functional.normalize(gradient, dim=(1, 2, 3, 4))  # type: ignore[arg-type]  # Several are fine.
            optimiser.step()
            with torch.no_grad():
                pictures = torch.cat(list(spectrum().split(1)), dim=3)
            yield Frame(
                step=step,
                steps=self.steps,
                stage=f"channel {self.channel}" if not self.class_name else self.class_name,
                work=step / self.steps,
                loss=loss,
                image=pictures,
            )

    def objective(self, layer: str, wanted: list[int]) -> Objective:
        """A channel for each picture of the batch and, where asked for, pictures that are unlike each other.

        Diversity weighs as much as the answer itself, whatever the network and layer: differs from Olah et al.
        """
        answer = {"channel": channels, "neuron": neurons}[self.answers](layer, wanted)
        if self.pictures == 1 or not self.diversity:
            return answer
        unlikeness = diversity(layer)

        @objective(layer)
        def both(activations: Activations) -> Tensor:
            value = answer(activations)
            return value + self.diversity * value.detach().abs() * unlikeness(activations)

        return both

    def demand(self, network: Network, size: None, **others: tuple[int, int]) -> Demand:
        cost, pixels = network.cost({self.place[0]}), self.pictures * self.size**2
        held = pixels * (cost.bytes + IMAGES_HELD * IMAGE_BYTES)
        return Demand(flops=pixels * self.steps * cost.flops, bytes=tiles.resident(held))
