"""Style transfer: the content of one picture in the style of another."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from featviz.images import fit, fitted_size, resize
from featviz.networks import NETWORKS, Network
from featviz.objectives import content_distance, gram, style_distance, total_variation
from featviz.parameterization import Average, pyramid
from featviz.recipe import Frame, Recipe, param


class StyleTransfer(Recipe):
    """Repaint the content of one picture in the style of another (Gatys et al., 2016)."""

    name: ClassVar[str] = "style_transfer"
    title: ClassVar[str] = "Style Transfer"
    images: ClassVar[dict[str, str]] = {
        "content": "The picture whose objects and arrangement are kept.",
        "style": "The picture whose textures and colours are taken.",
    }

    network: Literal[tuple(NETWORKS)] = param("vgg19", "Network whose eyes compare the pictures.")
    style_strength: float = param(1.0, "Pull towards the style.", ge=0, le=10, step=0.1, advanced=False)
    content_strength: float = param(1.0, "Pull towards the content.", ge=0, le=10, step=0.1, advanced=False)
    smoothness: float = param(1.0, "Pull towards smooth areas (total variation).", ge=0, le=10, step=0.1)
    steps: int = param(50, "Steps of the optimiser at each scale.", ge=1, le=1000)
    size: int = param(256, "Longest side of the result, in pixels.", ge=64, le=2048, step=16, advanced=False)
    scales: int = param(3, "Sizes the picture passes through, small to large, each √2 of the last.", ge=1, le=8)
    style_scale: float = param(1.0, "Size of the style picture against the content: larger gives larger strokes.", ge=0.25, le=4, step=0.05)
    step_size: float = param(0.02, "Adam step", ge=0.001, le=0.2, step=0.001)
    seed: int = param(0, "Seed", ge=0, le=2**31 - 1)

    @property
    def network_name(self) -> str:
        return self.network

    def run(self, network: Network, *, content: Tensor, style: Tensor) -> Iterator[Frame]:
        spec = network.spec
        content = fit(content, self.size, spec.smallest)
        scales = pyramid(tuple(content.shape[-2:]), self.scales, 2**0.5, 64)
        pixels = [height * width for height, width in scales]
        image = resize(content, scales[0])
        state = {}
        for scale, size in enumerate(scales):
            content_here = resize(content, size)
            style_here = resize(style, fitted_size(style.shape[-2:], min(round(max(size) * self.style_scale), max(style.shape[-2:]))))
            with torch.no_grad():
                target = network.activations(content_here, [spec.content_layer])
                grams = {layer: gram(a) for layer, a in network.activations(style_here, spec.style_layers).items()}
            objective = -(
                self.content_strength * content_distance(target)
                + self.style_strength * style_distance(grams)
                + self.smoothness * total_variation()
            )
            image = resize(image, size).clamp(0, 1).requires_grad_()
            optimiser = torch.optim.Adam([image], lr=self.step_size, betas=(0.9, 0.99))
            if state:
                optimiser.state[image] = {
                    "step": state["step"],
                    "exp_avg": resize(state["exp_avg"], size),
                    "exp_avg_sq": resize(state["exp_avg_sq"], size).relu(),
                }
            average = Average(0.99)
            for step in range(1, self.steps + 1):
                optimiser.zero_grad()
                loss = -objective(network.activations(image, objective.layers))
                loss.backward()
                optimiser.step()
                with torch.no_grad():
                    image.clamp_(0, 1)
                shown = average.update(image.detach())
                yield Frame(
                    step=scale * self.steps + step,
                    steps=len(scales) * self.steps,
                    stage=f"scale {scale + 1} of {len(scales)}",
                    work=(sum(pixels[:scale]) + pixels[scale] * step / self.steps) / sum(pixels),
                    loss=loss.detach(),
                    image=shown,
                )
            state = optimiser.state[image]
            image = shown
