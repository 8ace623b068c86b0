"""Layer Time Lapse: a video that goes through the layers of a network, and shows what each looks for in a picture and where."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate
from typing import ClassVar, Literal

import torch
from torch import Tensor

from featviz.media.images import to_picture, to_tensor
from featviz.media.sheets import captioned
from featviz.networks.network import Network
from featviz.networks.table import NETWORKS, NetworkName
from featviz.optimise.scaling import fit, fitted_size, resize, size_of
from featviz.recipes.activation_maps import forward_demand, heat
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.recipe import IMAGE_BYTES, Demand, Frames, Recipe, param

BRIGHTEST_SHARE = 0.98
"""Share of the positions of an activation map that get different colours. The rest, often on the border, is as bright as these."""

FRAME_IMAGES = 8
"""Images of the size of a video frame that are held while one is made, as tensors and as pictures."""


class LayerTimeLapse(Recipe):
    """Go through all layers of a network, shallow to deep: what each looks for in a picture, and where it is active."""

    name: ClassVar[str] = "layer_time_lapse"
    title: ClassVar[str] = "Layer Time Lapse"
    tab_group: ClassVar[str] = "Look Inside"
    action: ClassVar[str] = "Go through the layers"
    explanation: ClassVar[str] = """\
One picture on its way through the network: **each frame of the video is one layer, from the first to the last.**

- **On the left** is a short dream of the layer: the picture, changed so that the layer sees more of what it looks for.
- **On the right** is where the layer is active in the picture: bright where its activations are strong.
- **Below** is the name of the layer, and how much of the picture a unit of it sees, its *receptive field*.

Early layers look for edges and textures everywhere. Deeper layers look for eyes, faces and whole animals, on an ever
coarser grid.

*Try it: a picture with eyes. The layer at which the map first lights up on both is the first that knows what an eye is.*
"""
    images: ClassVar[dict[str, str]] = {"image": "The picture that goes through the network."}
    keeps_alpha: ClassVar[bool] = False
    produces: ClassVar[Literal["picture", "video", "numbers"]] = "video"

    network: NetworkName = param("efficientnet_lite0", "Network whose layers are shown.")
    strength: float = param(4.0, "Mean change of a pixel in each step of a dream, of 255.", ge=0.1, le=10, step=0.1)
    steps: int = param(8, "Steps of gradient ascent in each octave of a dream.", ge=1, le=100, usual=24)
    octaves: int = param(
        3, "Sizes each dream passes through, small to large: more give larger structures.", ge=1, le=10, group="How"
    )
    size: int = param(
        320, "Longest side of the picture, in pixels. It is shown twice, side by side.", ge=64, le=1024, step=16, group="How"
    )
    fps: int = param(2, "Layers a second.", ge=1, le=10, group="How")
    seed: int = param(0, "Seed of the random shifts of the dreams.", ge=0, le=2**31 - 1, group="How")

    @property
    def network_name(self) -> str:
        return self.network

    def dreams(self) -> dict[str, DeepDream]:
        """Return the dream of each layer, shallow to deep."""
        shared = {name: getattr(self, name) for name in ("strength", "steps", "octaves", "size", "seed")}
        return {layer: DeepDream(layer=f"{self.network}/{layer}", **shared) for layer in NETWORKS[self.network].layers}

    def run(self, network: Network, *, image: Tensor) -> Frames:
        """Yield a frame after each step of each dream; the last one of each has `is_video_frame`, and the map and the caption.

        While the next layer is computed, its image is the video frame before. `image` is (1, 3, H, W) in [0, 1].

        Raises:
            InputError: the picture is too small for the network.
        """
        dreams = self.dreams()
        flops = [dream.demand(network, size_of(image)).flops for dream in dreams.values()]
        begun = accumulate(flops, initial=0.0)
        shown: Tensor | None = None
        for number, ((layer, dream), before) in enumerate(zip(dreams.items(), begun, strict=False)):
            for frame in dream.run(network, image=image):
                done = frame.step == frame.steps
                if done:
                    shown = self.video_frame(network, image, layer, frame.image, f"layer {number + 1} of {len(dreams)}")
                yield frame.replace(
                    step=number * frame.steps + frame.step,
                    steps=len(dreams) * frame.steps,
                    stage=layer,
                    work=(before + frame.work * flops[number]) / sum(flops),
                    is_video_frame=done,
                    **({} if shown is None else {"image": shown}),
                )

    @torch.no_grad()
    def video_frame(self, network: Network, image: Tensor, layer: str, dream: Tensor, place: str) -> Tensor:
        """Return the dream (1, 3, h, w) of a layer beside the layer's activation map, over a caption, as (1, 3, H, W) in [0, 1].

        The map is the norm of the activations at each position, from the least to the greatest of `BRIGHTEST_SHARE`.
        """
        image = resize(fit(image, self.size, network.spec.smallest), size_of(dream)).clamp(0, 1)
        norms = network.activations(image, [layer])[layer].float().norm(dim=1)
        map_ = heat((norms - norms.min()).clamp(max=(norms - norms.min()).quantile(BRIGHTEST_SHARE)), image)
        rows, columns = network.receptive_field(layer).field
        seen = "the whole picture" if math.isinf(rows) else f"{columns:.0f} by {rows:.0f} pixels"
        picture = captioned(to_picture(torch.cat([dream, map_], dim=3)), layer, f"{place}, a unit sees {seen}")
        return to_tensor(picture, image.device)

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        dreams = [dream.demand(network, size) for dream in self.dreams().values()]
        deepest = forward_demand(network, [*self.dreams()][-1], size, self.size)
        drawing = FRAME_IMAGES * IMAGE_BYTES * 2 * math.prod(fitted_size(size, self.size))
        return replace(
            dreams[-1],
            flops=sum(dream.flops for dream in dreams),
            bytes=max(*(dream.bytes for dream in dreams), deepest.bytes) + drawing,
            fixed_work=sum(dream.fixed_work for dream in dreams),
        )
