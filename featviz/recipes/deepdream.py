"""DeepDream: amplify what a layer already detects in a picture (Mordvintsev et al., 2015)."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from featviz.errors import FieldError, nearest, short
from featviz.networks.network import Network
from featviz.networks.table import LOGITS, NETWORKS, Address, AddressOrNone, check_class, class_index, split
from featviz.optimise import tiles
from featviz.optimise.ascent import ascent, exact_ascent
from featviz.optimise.gradients import AUTO, SHAPERS, Shape, Shaper, luminance, soften
from featviz.optimise.objectives import CHUNK, Objective, channel, energy, guided_by_channels, guided_by_match
from featviz.optimise.parameterization import pyramid
from featviz.optimise.precision import TINY
from featviz.optimise.scaling import fit, fitted_size, resize, size_of
from featviz.optimise.tile_reports import View, viewed
from featviz.optimise.transforms import Surround
from featviz.recipes.following import STEADINESS, Before, Follower
from featviz.recipes.objective_recipe import ObjectiveRecipe
from featviz.recipes.recipe import (
    IMAGE_BYTES,
    MAX_FEATHER,
    Demand,
    Frame,
    Frames,
    Recipe,
    Rule,
    held_bytes,
    opening_bytes,
    param,
    parse_weights,
)

Regions = list[tuple[Objective, Tensor]]
"""Objectives, each with the mask (1, 1, H, W) in [0, 1] of where it is maximised."""

GUIDES: dict[str, Callable[[str, Tensor], Objective]] = {"match": guided_by_match, "channels": guided_by_channels}
"""Value of the field `guide_by` → function of (address, the guide's activations there) that returns the objective."""

CARRIED = 0.95
"""The share of what was dreamt that the next frame of a video carries on, at steadiness 1."""

SURROUND = 8
"""Least width of the mirror image around the picture, in pixels: zeros are padded outside it."""

IMAGES_HELD = 15
"""Copies of the largest octave that a run holds at once."""

GRADIENTS_HELD = 2
"""Gradients that are held at once if they are shown: that of the step, and of the one before until it is replaced."""


@dataclass(frozen=True)
class PartDemand:
    """The demand of one part of a run."""

    flops: float
    """Floating point operations in the whole run."""
    peak: float
    """Bytes while the part is computed, without those in `held`. Parts are computed one after the other."""
    held: float = 0.0
    """Bytes that stay in memory during the whole run."""
    fixed_work: float = 0.0
    """As in `Demand`."""


class DeepDream(ObjectiveRecipe):
    """Amplify what a layer of a trained network already sees in a picture (Mordvintsev et al., 2015)."""

    name: ClassVar[str] = "deepdream"
    title: ClassVar[str] = "DeepDream"
    tab_group: ClassVar[str] = "DeepDream"
    action: ClassVar[str] = "Start dreaming"
    sweep_action: ClassVar[str] = "Compare the layers"
    sweep_caption: ClassVar[str] = "The same dream at every layer, from shallow to deep."
    mask_action: ClassVar[str] = "Paint where to dream"
    explanation: ClassVar[str] = """\
A network that was trained to name things in photographs has learnt what edges, fur and eyes look like.
DeepDream amplifies this: **whatever a layer already detects in your picture, you get more of it.**

1. **Choose a picture and a layer.** The first layers of the network react to edges and textures, the later ones to eyes,
   faces and whole animals.
2. **Activations.** The picture goes through the network up to that layer. The result is its *activation maps*: one for
   each pattern that the layer looks for, bright where it found the pattern.
3. **Ask for more of the same.** The layer's gradient is set equal to its activations, so that the strongest activations
   count most.
4. **Gradient.** The gradient is computed back to the picture. It says for each pixel which change would make the
   activations stronger.
5. **Change the picture a little in this direction, and repeat.** It starts on a small version of the picture and continues
   on larger ones, the *octaves*, so that the dream has large shapes as well as fine detail.

*Try it: the same picture with an early, a middle and a late layer. You see how the network builds animals from edges.*
"""
    images: ClassVar[dict[str, str]] = {"image": "The picture to dream on."}
    optional_images: ClassVar[dict[str, str]] = {
        "guide": "A picture whose features the dream shall grow, instead of its own.",
        "mask": "Where to dream: white for here, black or transparent for not here, grey for in between.",
    }
    sweep_fields: ClassVar[tuple[str, ...]] = ("layer",)
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(("more_layers", "channels", "guide"), "the class is amplified and no layer", beside="class_name"),
        Rule(("guide_by",), "the class is amplified and no layer", beside="class_name", refused=False),
        Rule(("channels",), "the guide tells what is amplified", beside="guide"),
        Rule(("guide_by",), "there is nothing to steer by", without="guide", refused=False),
        Rule(("outside",), "nothing is outside", without="mask"),
        Rule(("feather",), "there is no edge", without="mask", refused=False),
        Rule(("size",), "the picture keeps its own size", beside="full_size", refused=False),
    )

    follows_video: ClassVar[bool] = True

    objective_rule: ClassVar[Rule] = Rule(
        ("layer", "more_layers", "channels", "class_name", "outside", "guide"), "it is amplified instead", beside="objective"
    )

    layer: Address = param(
        "vgg19/relu4_4", "Network and layer to amplify: early layers see edges and textures, later ones eyes and animals."
    )
    strength: float = param(3.0, "Mean change of a pixel in each step, of 255.", ge=0.1, le=10, step=0.1)
    steps: int = param(4, "Steps of gradient ascent in each octave.", ge=1, le=100, usual=24)
    size: int = param(640, "Longest side of the result, in pixels.", ge=64, le=4096, step=16, usual=1536)

    more_layers: str = param(
        "",
        "More layers of the same network, with weights, e.g. 'relu3_3: 0.5, relu5_1: 2'; the first one weighs 1.",
        longest=500,
        group="What",
    )
    channels: str = param(
        "", "Channels of the layer to amplify, e.g. '12, 85'; empty for all. Each counts once.", longest=500, group="What"
    )
    class_name: str = param(
        "",
        "An ImageNet class to dream of instead of a layer, e.g. 'hummingbird'; needs a network that classifies.",
        longest=100,
        group="What",
    )
    guide_by: Literal["match", "channels"] = param(
        "match", "How a guide steers: its best match for each position, or the channels that it excites.", group="What"
    )
    outside: AddressOrNone = param(
        "", "Layer to amplify outside the mask; empty leaves the picture there as it is.", group="Where"
    )
    feather: int = param(
        8, "Softness of the mask's edge, in pixels of the result.", ge=0, le=MAX_FEATHER, usual=64, group="Where"
    )
    octaves: int = param(
        5, "Sizes the picture passes through, small to large: more give larger structures.", ge=1, le=10, group="Octaves"
    )
    octave_scale: float = param(1.6, "Ratio between the sizes of two octaves.", ge=1.1, le=2.0, step=0.05, group="Octaves")
    octaves_above: int = param(
        0, "How many of them are larger than the result, which is then shrunk: finer detail.", ge=0, le=3, group="Octaves"
    )
    detail: bool = param(True, "Bring the picture's own sharp detail back at every octave.", group="Octaves")
    gradient: Shape = param(
        AUTO,
        "How the gradient is shaped: as suits the network, as it is, equally strong at all scales, smoothed, or with smooth colours.",
        group="Gradient",
    )
    jitter: int = param(
        16, "Random shift of each step, in pixels, which keeps patterns from locking onto a grid.", ge=0, le=128, group="Gradient"
    )
    seed: int = param(0, "Seed of the random shifts: the same seed gives the same picture.", ge=0, le=2**31 - 1, group="Gradient")
    show_gradient: bool = param(False, "Show the gradient image of each step beside the preview.", group="Gradient")
    keep_colours: bool = param(False, "Change brightness only, and keep the picture's colours.", group="Result")
    full_size: bool = param(False, "Keep the picture's own size instead of the one set.", group="Result")
    steadiness: float = STEADINESS

    @model_validator(mode="after")
    def _check_together(self) -> "DeepDream":
        network = self.network_name
        spec = NETWORKS[network]
        for layer in self.weights:
            if layer not in spec.layers:
                raise FieldError(f"{spec.title} has no layer '{layer}'; {nearest(layer, list(spec.layers))}")
        if not any(self.weights.values()):
            raise FieldError("All layers weigh 0; at least one needs another weight.")
        if self.outside and split(self.outside)[0] != network:
            raise FieldError(f"outside is '{self.outside}'; expected a layer of the same network, {spec.title}.")
        check_class(network, self.class_name)
        parse_channels(self.channels)
        return self

    def variants(self, size: int = 144) -> list[Recipe]:
        """Return small dreams of the same picture at every layer of the network, shallow to deep."""
        single = {
            "objective": None,
            "more_layers": "",
            "channels": "",
            "class_name": "",
            "outside": "",
            "full_size": False,
            "show_gradient": False,
        }
        small = {
            "size": size,
            "octaves": min(self.octaves, 2),
            "octaves_above": 0,
            "steps": min(self.steps, 8),
            "feather": min(MAX_FEATHER, round(self.feather * size / self.size)),
        }
        layers = NETWORKS[self.network_name].layers
        return [self.replace(**single | small | {"layer": f"{self.network_name}/{layer}"}) for layer in layers]

    @property
    def network_name(self) -> str:
        return split(self.layer)[0] if self.objective is None else self.objective.network

    def check_network(self, network: Network) -> None:
        super().check_network(network)
        if self.objective is None:
            network.check_channels(split(self.layer)[1], parse_channels(self.channels))

    @property
    def weights(self) -> dict[str, float]:
        """Each layer that is amplified, without its network, and its weight; the field `layer` first."""
        return {split(self.layer)[1]: 1.0} | parse_weights(self.more_layers)

    def run(self, network: Network, *, image: Tensor, guide: Tensor | None = None, mask: Tensor | None = None) -> Frames:
        """Yield a frame after each step of each octave. `image`, `guide` and `mask` are (1, 3, H, W) in [0, 1].

        Raises:
            InputError: a picture is too small for the network, the mask selects nothing, or a channel does not exist.
        """
        yield from self.dream(network, image, self.fixed_objective(network, image, guide), mask)

    def dream(self, network: Network, image: Tensor, fixed: Objective | None, mask: Tensor | None) -> Frames:
        """`run`, with the result of `fixed_objective`."""
        generator = torch.Generator().manual_seed(self.seed)
        allowance = tiles.Allowance(tiled=self.tiled(network))
        longest, octaves = self.sizes(network, size_of(image))
        target = fitted_size(size_of(image), longest)
        image = fit(image, max(octaves[-1]), network.spec.smallest)
        pixels = [math.prod(self.surrounded(octave)) for octave in octaves]
        mask = soften(resize(mask, target), self.feather) if mask is not None else image.new_ones(1, 1, *target)
        dream, change = image, torch.zeros_like(resize(image, octaves[0]))

        for octave, size in enumerate(octaves):
            base, octave_mask = resize(image, size).clamp(0, 1), resize(mask, size).clamp(0, 1)
            # The change is carried on, not the picture: the picture's own detail enters sharp at every octave.
            dream = base + resize(change, size) if self.detail else resize(dream, size)
            dream = self.confine(dream.clamp(0, 1), base, octave_mask)
            regions = self.regions(network, dream, fixed, octave_mask)
            for step in range(1, self.steps + 1):
                value, dream, gradient = self.stepped(network, regions, dream, step / self.steps, generator, allowance)
                yield Frame(
                    step=octave * self.steps + step,
                    steps=len(octaves) * self.steps,
                    stage=f"octave {octave + 1} of {len(octaves)}{allowance.remark}",
                    work=(sum(pixels[:octave]) + pixels[octave] * step / self.steps) / sum(pixels),
                    loss=-value,
                    image=dream if size[0] <= target[0] else partial(self.shrunk, dream, image, mask),
                    gradient=gradient if gradient is None or size[0] <= target[0] else partial(resize, gradient, target),
                )
            change = dream - base

    def follower(self, network: Network, *, image: Tensor, guide: Tensor | None = None, mask: Tensor | None = None) -> Follower:
        """Return a function that dreams on the frames of a video.

        A frame carries on what was dreamt on the one before, moved and weakened, and dreams the rest. What is carried is the
        change of the picture, not the picture.
        """
        fixed, following = self.fixed_objective(network, image, guide), self.following

        def frames(picture: Tensor, before: Before | None) -> Frames:
            if before is None:
                return self.dream(network, picture, fixed, mask)
            dreamt = self.carried * before.motion.visible * before.motion(before.result - before.picture)
            if mask is not None and not self.outside:
                dreamt = torch.where(soften(resize(mask, size_of(dreamt)), self.feather) > 0, dreamt, 0)
            start = (picture + resize(dreamt, size_of(picture))).clamp(0, 1)
            # A seed for each, since the same shifts would leave a pattern that stands still on the screen.
            seed = (self.seed + before.number) % 2**31
            return following.replace(seed=seed).dream(network, start, fixed, mask)

        return frames

    @property
    def carried(self) -> float:
        """The share of what was dreamt that a frame of a video carries on from the one before."""
        return CARRIED * self.steadiness

    @property
    def following(self) -> "DeepDream":
        # What is carried fades, and steps make up for it: 1 - c of a still's if every frame dreams the same, √(1 - c²) if each
        # dreams something else. By measurement it is between the two.
        missing = self.steps * (1 - self.carried**2)
        steps = max(1, round(missing))
        return self.replace(steps=steps, strength=min(max(self.strength * missing / steps, 0.1), 10.0))

    def stepped(
        self,
        network: Network,
        regions: Regions,
        dream: Tensor,
        progress: float,
        generator: torch.Generator,
        allowance: tiles.Allowance,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the sum of the objectives, (), the dream after a step, and its gradient if it is shown. Nothing else is held."""
        total, result = dream.new_zeros(()), dream
        shape = SHAPERS[network.spec.gradient if self.gradient == AUTO else self.gradient]
        for objective, mask in regions:
            moved = partial(self.moved, result, mask, shape, progress)
            shifted = partial(self.shifted_ascent, network, objective, dream, generator, moved)
            value, gradient = allowance.fit(shifted, network.cost(objective.layers).bytes)
            total = total + value
            result = moved(tiles.EVERYWHERE, gradient)
        added = (result - dream) * (255 / self.strength) if self.show_gradient else None
        return total, result.clamp_(0, 1), added

    def moved(self, dream: Tensor, mask: Tensor, shape: Shaper, progress: float, area: tiles.Area, gradient: Tensor) -> Tensor:
        """Return an area of a dream after a step, not clamped. `gradient` is that of the area, which alone is shaped."""
        shaped = shape(luminance(gradient) if self.keep_colours else gradient, progress)
        return torch.addcmul(dream[(..., *area)], mask[(..., *area)], shaped, value=self.strength / 255)

    def shifted_ascent(
        self,
        network: Network,
        objective: Objective,
        image: Tensor,
        generator: torch.Generator,
        moved: Callable[[tiles.Area, Tensor], Tensor],
        side: int,
    ) -> tuple[Tensor, Tensor]:
        """Return the value of an objective for the image with its mirror image around it, at a random shift, and the gradient.

        Tiles, if there are several, meet at other places in each step, so that no seam shows. `moved` returns an area of the image
        after the step.
        """
        surround = Surround.random(SURROUND, self.jitter, generator)
        shift = torch.rand(2, generator=generator).tolist()
        differentiate = partial(ascent, shift=shift) if self.objective is None else exact_ascent
        with viewed(View(size_of(image), lambda area: image[(..., *area)], moved, (surround.above, surround.left))):
            value, gradient = differentiate(network, objective, surround(image), side)
        return value, surround.undo(gradient)

    def scaled_side(self, role: str) -> int | None:
        return None if self.full_size else round(self.size * self.octave_scale**self.octaves_above)

    def sizes(self, network: Network, size: tuple[int, int]) -> tuple[int, list[tuple[int, int]]]:
        """Return the longest side of the result for a picture of (height, width), and the (height, width) of every octave."""
        longest = max(size) if self.full_size else self.size
        top = fitted_size(size, round(longest * self.octave_scale**self.octaves_above))
        return longest, pyramid(top, self.octaves, self.octave_scale, network.spec.smallest)

    def surrounded(self, octave: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) that the network processes for an octave of (height, width): with what surrounds it."""
        height, width = (side + 2 * SURROUND + self.jitter for side in octave)
        return height, width

    def layers(self) -> list[frozenset[str]]:
        """Return the layers that a step needs, region by region."""
        if self.objective is not None:
            return [self.objective.layers]
        amplified = {LOGITS} if self.class_name else self.weights
        return [frozenset(amplified), *([frozenset({split(self.outside)[1]})] if self.outside else [])]

    def tiled(self, network: Network) -> bool:
        """Return whether images may be processed by tiles. For a class the result is then approximate, so an objective may not."""
        layers = frozenset().union(*self.layers())
        return network.tiled(layers) and not (self.objective is not None and LOGITS in layers)

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        _, octaves = self.sizes(network, size)
        parts = [self.ascent_demand(network, octaves)]
        if "guide" in others and not self.class_name:
            parts.append(self.guide_demand(network, octaves, self.guide_size(network, size, others["guide"])))
        held = (
            (IMAGES_HELD + GRADIENTS_HELD * self.show_gradient) * IMAGE_BYTES * math.prod(self.surrounded(octaves[-1]))
            + held_bytes(*others.values())
            + sum(part.held for part in parts)
        )
        peak = held + max(part.peak for part in parts)
        return Demand(
            flops=sum(part.flops for part in parts),
            bytes=max(peak, opening_bytes(size, *others.values())),
            fixed_work=sum(part.fixed_work for part in parts),
        )

    def ascent_demand(self, network: Network, octaves: Sequence[tuple[int, int]]) -> PartDemand:
        """Return the demand of the gradients of all steps. `octaves` are the (height, width) of each octave."""
        octaves = [self.surrounded(octave) for octave in octaves]
        tiled, largest = self.tiled(network), octaves[-1]
        costs = [network.cost(layers) for layers in self.layers()]
        sides = [tiles.largest(cost.bytes, tiled=tiled) for cost in costs]
        pixels = [sum(tiles.seen_pixels(octave, side, shift=tiles.HALF) for octave in octaves) for side in sides]
        passes = [sum(tiles.count(octave, side, shift=tiles.HALF) for octave in octaves) for side in sides]
        flops = self.steps * sum(cost.flops * seen for cost, seen in zip(costs, pixels, strict=True))
        fixed = self.steps * sum(cost.fixed_work * number for cost, number in zip(costs, passes, strict=True))
        if self.objective is None or tiles.fits(largest, sides[0]):
            peaks = [
                tiles.peak(largest, cost.bytes, side, shift=tiles.HALF) + cost.fixed_bytes
                for cost, side in zip(costs, sides, strict=True)
            ]
            return PartDemand(flops, peak=max(peaks), fixed_work=fixed)
        # `exact_ascent` by tiles runs each tile forward twice, and holds the activations of the whole image and their gradient.
        layers = self.objective.layers
        values = sum(tiles.values_per_pixel(network, layer) for layer in layers)
        peak = tiles.peak(largest, costs[0].bytes, tiles.largest(costs[0].bytes), tiles.reach(network, layers))
        held = 2 * 4 * values * math.prod(largest)
        return PartDemand(1.5 * flops, peak + costs[0].fixed_bytes, held, fixed_work=1.5 * fixed)

    def guide_demand(self, network: Network, octaves: Sequence[tuple[int, int]], guide: tuple[int, int]) -> PartDemand:
        """Return the demand of extracting the features of a scaled guide of (height, width), and of comparing with them."""
        layers = self.weights
        cost = network.cost(layers)
        forward = cost.forward_bytes
        side = tiles.largest(forward, tiled=network.tiled(layers))
        features = {layer: math.prod(guide) * tiles.values_per_pixel(network, layer) for layer in layers}
        size = 4 * sum(features.values())
        peak = (
            size
            + cost.fixed_bytes
            + tiles.peak(guide, forward, side, tiles.reach(network, layers), share=tiles.HEAP_SHARE_FORWARD)
        )
        if self.guide_by == "channels":
            return PartDemand(0.0, peak)
        # "match": the dot product of each position of the image with each of the guide, `CHUNK` of both at a time.
        pixels = sum(math.prod(self.surrounded(octave)) for octave in octaves)
        products = sum(2 * count / network.receptive_field(layer).stride ** 2 for layer, count in features.items())
        return PartDemand(self.steps * pixels * products, peak, held=size + 2 * 4 * CHUNK**2)

    def confine(self, dream: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        """Return the dream where the mask is above 0, and the picture elsewhere, unchanged to the bit."""
        return dream if self.outside else torch.where(mask > 0, dream, base)

    def shrunk(self, dream: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Return the dream of an octave above the result in the size of the mask, (1, 1, H, W). `image` is the picture."""
        return self.confine(resize(dream, size_of(mask)).clamp(0, 1), resize(image, size_of(mask)), mask)

    def regions(self, network: Network, image: Tensor, fixed: Objective | None, mask: Tensor) -> Regions:
        """Return the objective inside the mask and, if the field `outside` is set, the one outside."""
        regions = [(fixed or self.octave_objective(network, image), mask)]
        return [*regions, (energy(self.outside), 1 - mask)] if self.outside else regions

    @torch.no_grad()
    def octave_objective(self, network: Network, image: Tensor) -> Objective:
        """Return the energy of the layers. Several are weighed by the norms of their activations for the image of the octave."""
        weights = self.weights
        first, *others = weights
        channels = parse_channels(self.channels)
        network.check_channels(first, channels)
        norms = norms_of(network, image, weights) if others else {first: 1.0}
        terms = [weights[first] / norms[first] * energy(self.layer, channels)]
        terms += [weights[layer] / norms[layer] * energy(f"{self.network_name}/{layer}") for layer in others]
        return reduce(add, terms)

    @torch.no_grad()
    def fixed_objective(self, network: Network, image: Tensor, guide: Tensor | None) -> Objective | None:
        """Return the objective if it is the same at every octave: the user's, a class, or the features of a guide; else None.

        The features of a guide (1, 3, H, W) are relative to the norm of its activations in each layer. It is scaled to the size
        of the result, but never enlarged.
        """
        if self.objective is not None:
            return self.objective
        if self.class_name:
            return channel(f"{self.network_name}/{LOGITS}", class_index(self.class_name, self.network_name))
        if guide is None:
            return None
        guide = fit(guide, max(self.guide_size(network, size_of(image), size_of(guide))), network.spec.smallest)
        weights, steer = self.weights, GUIDES[self.guide_by]
        extract = partial(tiles.activations_of, network, guide, weights, continued=False)
        features = tiles.Allowance(tiled=network.tiled(weights)).fit(extract, network.cost(weights).forward_bytes)
        terms = [
            (weight / features[layer].norm().clamp_min(TINY)).item() * steer(f"{self.network_name}/{layer}", features[layer])
            for layer, weight in weights.items()
        ]
        return reduce(add, terms)

    def guide_size(self, network: Network, image: tuple[int, int], guide: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) to which a guide is scaled, from the (height, width) of both pictures."""
        longest, _ = self.sizes(network, image)
        return fitted_size(guide, min(longest, max(guide)))


def norms_of(network: Network, image: Tensor, layers: dict[str, float]) -> dict[str, float]:
    """Return ‖a‖₂ of each layer for an image (1, 3, H, W), by tiles. Divided by it, a weight of 0.5 means half."""
    squares = dict.fromkeys(layers, TINY)
    side = tiles.largest(network.cost(layers).bytes) if network.tiled(layers) else tiles.WHOLE
    for tile in tiles.grid(size_of(image), side):
        for layer, activations in network.activations(image[(..., *tile.seen)], layers).items():
            squares[layer] += tile.share * activations.square().sum().item()
    return {layer: square**0.5 for layer, square in squares.items()}


def parse_channels(text: str) -> tuple[int, ...]:
    """Return '12, 85, 12' as (12, 85): each channel once, in the order of first mention.

    Raises:
        FieldError: an item is not a whole number of at least 0.
    """
    items = re.findall(r"[^\s,]+", text)
    for item in items:
        if not re.fullmatch(r"[0-9]{1,6}", item):
            raise FieldError(f"There is no channel '{short(item)}'; expected whole numbers from 0, as in '12, 85'.")
    return tuple(dict.fromkeys(map(int, items)))
