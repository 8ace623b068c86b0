"""Style transfer: the content of one picture in the style of another."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from featviz import tiles
from featviz.images import fit, fitted_size, resize
from featviz.networks import INPUT, NETWORKS, Network
from featviz.objectives import Objective, content_distance, gram, style_distance, total_variation
from featviz.parameterization import Average, pyramid
from featviz.recipe import Demand, Frame, Frames, Recipe, param
from featviz.transforms import Roll

STEP_SIZE = 0.05
"""Of Adam, at the start of each scale: about how far a pixel moves in a step, of a range of 1."""

STYLE, SMOOTHNESS = 20.0, 120.0
"""What a strength of 1 weighs against a content strength of 1, found by looking. All distances are relative to their
target, so that these two numbers serve every network, layer and size."""


class StyleTransfer(Recipe):
    """Repaint the content of one picture in the style of another (Gatys et al., 2016)."""

    name: ClassVar[str] = "style_transfer"
    title: ClassVar[str] = "Style Transfer"
    room: ClassVar[str] = "Style Transfer"
    images: ClassVar[dict[str, str]] = {
        "content": "The picture whose objects and arrangement are kept.",
        "style": "The picture whose textures and colours are taken.",
    }

    style_strength: float = param(1.0, "Pull towards the style.", ge=0, le=10, step=0.1)
    content_strength: float = param(1.0, "Pull towards the content.", ge=0, le=10, step=0.1)
    size: int = param(352, "Longest side of the result, in pixels.", ge=64, le=2048, step=16)
    network: Literal[tuple(NETWORKS)] = param("vgg19", "Network that compares the pictures.")
    steps: int = param(24, "Steps of the optimiser at each scale.", ge=1, le=1000, group="Scales")
    scales: int = param(
        3, "Sizes the picture passes through, small to large, each √2 times the last.", ge=1, le=8, group="Scales"
    )
    style_scale: float = param(
        1.0, "Size of the style against the content: larger gives larger strokes.", ge=0.25, le=4, step=0.05, group="Scales"
    )
    smoothness: float = param(1.0, "Pull towards even areas (total variation).", ge=0, le=10, step=0.1, group="Finish")
    jitter: int = param(
        4, "Random shift of each step, in pixels, which keeps grain from settling in.", ge=0, le=16, group="Finish"
    )
    seed: int = param(0, "Seed of the random shifts: the same seed gives the same picture.", ge=0, le=2**31 - 1, group="Finish")

    @property
    def network_name(self) -> str:
        return self.network

    def run(self, network: Network, *, content: Tensor, style: Tensor) -> Frames:
        """Yields a frame after each step of each scale. `content` and `style` are (1, 3, H, W) in [0, 1].

        Differs from Gatys et al. (2015): Adam instead of L-BFGS, coarse to fine, with the averaged iterates shown and
        carried on, both after Crowson (style-transfer-pytorch, 2021).
        """
        content = fit(content, self.size, network.spec.smallest)
        scales = self.sizes(network, tuple(content.shape[-2:]))
        pixels = [height * width for height, width in scales]
        generator = torch.Generator().manual_seed(self.seed)
        shown = resize(content, scales[0])
        moments: dict[str, Tensor] = {}  # What Adam has learnt about each pixel, carried from scale to scale.

        for scale, size in enumerate(scales):
            objective = self.objective(network, resize(content, size), self.sized(style, max(size)))
            image = resize(shown, size).clamp(0, 1).requires_grad_()
            optimiser = torch.optim.Adam([image], betas=(0.9, 0.99))
            optimiser.state[image].update(resized(moments, size))
            average = Average(0.9)
            for step in range(1, self.steps + 1):
                optimiser.param_groups[0]["lr"] = STEP_SIZE * (1 - 0.8 * step / self.steps)  # Settle before the next scale.
                roll = Roll.random(self.jitter, generator)
                loss = -objective(network.activations(roll(image), objective.layers))
                (image.grad,) = torch.autograd.grad(loss, image)
                optimiser.step()
                image.data.clamp_(0, 1)
                shown = average.update(image)
                yield Frame(
                    step=scale * self.steps + step,
                    steps=len(scales) * self.steps,
                    stage=f"scale {scale + 1} of {len(scales)}",
                    work=(sum(pixels[:scale]) + pixels[scale] * step / self.steps) / sum(pixels),
                    loss=loss.detach(),
                    image=shown,
                )
            moments = optimiser.state[image]

    def demand(self, network: Network, size: tuple[int, int]) -> Demand:
        scales = self.sizes(network, fitted_size(size, self.size))
        pixels = [height * width for height, width in scales]
        cost = network.cost({network.spec.content_layer, *network.spec.style_layers})
        return Demand(flops=sum(pixels) * self.steps * cost.flops, bytes=pixels[-1] * cost.bytes * tiles.WORKING)

    def sizes(self, network: Network, size: tuple[int, int]) -> list[tuple[int, int]]:
        """The (height, width) of every scale for a result of (height, width)."""
        return pyramid(size, self.scales, 2**0.5, 2 * network.spec.smallest)

    def sized(self, style: Tensor, longest: int) -> Tensor:
        """The style picture at the size its strokes shall have beside a content of `longest` pixels; never enlarged."""
        height, width = style.shape[-2:]
        return resize(style, fitted_size((height, width), min(round(longest * self.style_scale), max(height, width)))).clamp(0, 1)

    @torch.no_grad()
    def objective(self, network: Network, content: Tensor, style: Tensor) -> Objective:
        """Stay near the content's activations and the style's correlations, and be smooth."""
        spec = network.spec
        targets = network.activations(content, [spec.content_layer])
        grams = {layer: gram(activations) for layer, activations in network.activations(style, spec.style_layers).items()}
        return -(
            self.content_strength * content_distance(targets)
            + self.style_strength * STYLE * style_distance(grams)
            + self.smoothness * SMOOTHNESS * total_variation(INPUT)
        )


def resized(moments: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """Adam's state for an image of another size; `step` is kept, so that its start-up bias is not corrected twice."""
    return {
        name: resize(value, size).relu() if name == "exp_avg_sq" else resize(value, size) if value.ndim else value
        for name, value in moments.items()
    }
