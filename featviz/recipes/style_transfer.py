"""Style transfer: the content of one picture in the style of another."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn import functional

from featviz.errors import FieldError, InputError, nearest
from featviz.networks.network import Network
from featviz.networks.table import INPUT, NETWORKS, NetworkName
from featviz.optimise import tiles
from featviz.optimise.colours import match_colours
from featviz.optimise.gradients import luminance, soften
from featviz.optimise.objectives import total_variation
from featviz.optimise.optimisers import OPTIMISERS, remembered, resized
from featviz.optimise.parameterization import Average, pyramid
from featviz.optimise.scaling import fit, fitted_size, mirrored, resize, size_of
from featviz.optimise.style_statistics import STATISTICS, TINY, Distance, Statistic, blend, moments
from featviz.optimise.transforms import Roll
from featviz.recipes.recipe import IMAGE_BYTES, Demand, Frame, Frames, Recipe, Rule, handed_in, param, parse_weights

STYLE, SMOOTHNESS = 32.0, 240.0
"""What a strength of 1 weighs against a content strength of 1, found by looking. All distances are relative to their
target, so that these two numbers serve every network, layer and size."""

MEMORY = 6
"""How much more than a dream a tile may hold in activations, since here all that a layer sees is added around it."""

IMAGES_HELD = 22
"""Copies of the image that a run holds at once, beside what L-BFGS remembers."""

FALL = 1.35
"""How fast the weights of style layers fall with the distance of their positions: each layer of half the size weighs 2^-1.35."""

FEWER = 0.7
"""Steps of a scale, as a share of those of the next smaller one: what is large is settled by then."""

BLACK = 2 / 255
"""What is darker everywhere is black: relative to it any other picture is infinitely far away."""


class StyleTransfer(Recipe):
    """Repaint the content of one picture in the style of another (Gatys et al., 2016)."""

    name: ClassVar[str] = "style_transfer"
    title: ClassVar[str] = "Style Transfer"
    tab_group: ClassVar[str] = "Style Transfer"
    images: ClassVar[dict[str, str]] = {
        "content": "The picture whose objects and arrangement are kept.",
        "style": "The picture whose textures and colours are taken.",
    }
    extras: ClassVar[dict[str, str]] = {
        "style2": "A second style, mixed with the first, or for what is outside the mask.",
        "mask": "Where to paint: white for here, black or transparent for not here, grey for in between.",
        "start": "A result to go on from; the scales that it has passed already are left out.",
    }

    sweep_fields: ClassVar[tuple[str, ...]] = ("style_strength", "style_scale")
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(("style_blend",), "there is one style", without="style2", refused=False),
        Rule(("style_blend",), "each style has its own region", beside="mask", refused=False),
        Rule(("feather",), "there is no edge", without="mask", refused=False),
    )
    opacity_roles: ClassVar[tuple[str, ...]] = ("content", "style", "style2")

    style_strength: float = param(1.0, "Pull towards the style.", ge=0, le=10, step=0.1, live=True)
    content_strength: float = param(1.0, "Pull towards the content.", ge=0, le=10, step=0.1, live=True)
    size: int = param(384, "Longest side of the result, in pixels.", ge=64, le=4096, step=16)
    network: NetworkName = param("vgg19", "Network that compares the pictures.")

    style_scale: float = param(
        1.0, "Size of the style against the content: larger gives larger strokes.", ge=0.25, le=4, step=0.05, group="Style"
    )
    style_blend: float = param(
        0.5, "Share of the second style in the mixture, where there is one and no mask.", ge=0, le=1, step=0.05, group="Style"
    )
    colours: Literal["style", "matched", "content"] = param(
        "style",
        "Colours of the result: the style's, the content's by recolouring the style, or the content's by painting only brightness.",
        group="Style",
    )
    statistic: Statistic = param(
        "wasserstein", "What of feature maps is compared: correlations, means and covariances, or their optimal transport.",
        group="Style",
    )  # fmt: skip
    style_layers: str = param(
        "",
        "Layers that hold the style, with weights, e.g. 'relu1_1: 2, relu5_1: 0.5'; empty for the network's own.",
        longest=500,
        group="Style",
    )
    content_layers: str = param(
        "",
        "Layers that hold the content, with weights, e.g. 'relu2_2: 0.5, relu4_2'; empty for the network's own.",
        longest=500,
        group="Content",
    )
    init: Literal["content", "noise"] = param(
        "content", "What the picture starts from, unless a start picture is given.", group="Content"
    )
    feather: int = param(8, "Softness of the mask's edge, in pixels of the result.", ge=0, le=256, group="Where")
    steps: int = param(
        24,
        "Steps of the optimiser at the smallest scale; each larger one takes 0.7 times as many.",
        ge=1,
        le=1000,
        group="Scales",
    )
    scales: int = param(
        2, "Sizes the picture passes through, small to large, each √2 times the last.", ge=1, le=8, group="Scales"
    )
    optimiser: Literal["lbfgs", "adam"] = param(
        "lbfgs", "How the picture moves: L-BFGS gets further in a step, Adam wanders more.", group="Scales"
    )
    smoothness: float = param(1.0, "Pull towards even areas (total variation).", ge=0, le=10, step=0.1, group="Finish", live=True)
    seed: int = param(
        0,
        "Seed of the noise, and of the shifts that Adam works with: the same seed gives the same picture.",
        ge=0,
        le=2**31 - 1,
        group="Finish",
    )

    @model_validator(mode="after")
    def _check_together(self) -> "StyleTransfer":
        spec = NETWORKS[self.network]
        for name in ("style_layers", "content_layers"):
            weights = parse_weights(getattr(self, name))
            for layer, weight in weights.items():
                if layer not in (INPUT, *spec.layers):
                    raise FieldError(f"{spec.title} has no layer '{layer}'; {nearest(layer, list(spec.layers))}")
                if weight < 0:
                    raise FieldError(f"The weight of '{layer}' is {weight:g}; expected a number of at least 0.")
            if weights and not any(weights.values()):
                raise FieldError(f"All of {name} weigh 0; at least one needs another weight.")
        if not self.style_strength and not self.content_strength:
            raise FieldError("style_strength and content_strength are both 0; at least one has to be more.")
        return self

    @property
    def network_name(self) -> str:
        return self.network

    def variants(self, size: int = 160) -> list[Recipe]:
        """The same pair, small, with other strengths and brush sizes."""
        small = {"size": size, "steps": min(self.steps, 20), "scales": 2, "feather": round(self.feather * size / self.size)}
        return [
            self.replace(**small | {"style_strength": strength, "style_scale": scale})
            for strength in (0.3, 1.0, 3.0)
            for scale in (0.5, 1.0, 2.0)
        ]

    def run(
        self,
        network: Network,
        *,
        content: Tensor,
        style: Tensor,
        style2: Tensor | None = None,
        mask: Tensor | None = None,
        start: Tensor | None = None,
        opacity: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Frames:
        """Yields a frame after each step of each scale. All images are (1, 3, H, W) in [0, 1].

        `opacity` has (1, 1, H, W) in [0, 1] for those of `content`, `style` and `style2` that are transparent somewhere: each
        position enters statistics as much as it is opaque.

        Differs from Gatys et al. (2015): coarse to fine, and distances that are relative to their target. A second style is
        mixed with the first; with a mask it is wanted outside of that, and without a second style all outside stays as it is.

        Raises:
            InputError: a picture is too narrow for the network, a style is black all over, or the mask selects nothing.
        """
        settings = self
        generator = torch.Generator().manual_seed(self.seed)
        content = fit(content, self.size, network.spec.smallest)
        mask = mask if mask is None else soften(resize(mask, size_of(content)), self.feather)
        styles = [(one, opacity.get(role)) for role, one in (("style", style), ("style2", style2)) if one is not None]
        if any(one.max() < BLACK for one, _ in styles):
            raise InputError("The style is black all over; choose one that has something to take.")
        visible = opacity.get("content")
        schedule = self.schedule(network, size_of(content), start)
        steps, work = (sum(spent) for spent in zip(*((count, count * h * w) for (h, w), count in schedule), strict=True))
        shown = start if start is not None else content if self.init == "content" else noise(content, generator)
        way = OPTIMISERS[self.optimiser]
        budget, cost = MEMORY * tiles.allowed(), self.bytes(network)
        allowance = tiles.Allowance(budget, tiled=network.tiled(self.layers(network)))
        memory: Mapping[str, Tensor] = {}  # What Adam has learnt about each pixel, carried from scale to scale.
        step = done = 0

        for scale, (size, count) in enumerate(schedule, start=1):
            base = resize(content, size).clamp(0, 1)
            here = mask if mask is None else resize(mask, size).clamp(0, 1)
            confined = here if style2 is None else None  # To where the picture may change.
            seen = visible if visible is None else resize(visible, size).clamp(0, 1)
            wanted = allowance.fit(partial(self.wanted, network, base, styles, here, seen), cost)
            image = resize(shown, size).clamp(0, 1).requires_grad_()
            optimiser = way.make([image])
            optimiser.state[image].update(resized(memory, size))
            average = Average(way.averaged)
            for now in range(1, count + 1):
                roll = Roll.random(way.jitter, generator)
                painted = image if confined is None else torch.lerp(base, image, confined)
                measures, loss, gradient = allowance.fit(partial(wanted.compare, roll(painted.detach()), settings), cost)
                image.grad = roll.undo(gradient) * (1.0 if confined is None else confined)
                optimiser.param_groups[0]["lr"] = way.rate(now / count, image.grad, loss, not optimiser.state[image])
                optimiser.step(lambda loss=loss: loss)  # type: ignore[misc]  # A tensor, where torch's stubs have a float.
                image.data.clamp_(0, 1)
                shown = average.update(image if confined is None else torch.lerp(base, image, confined)).clamp(0, 1)
                step, done = step + 1, done + size[0] * size[1]
                sent = yield Frame(
                    step=step,
                    steps=steps,
                    stage=f"scale {scale} of {len(schedule)}{allowance.word}",
                    work=done / work,
                    loss=loss,
                    image=self.coloured(shown, base),
                    measures=measures,
                )
                if isinstance(sent, StyleTransfer) and sent != settings:
                    settings = sent
                    way.forget_loss(optimiser)
            memory = optimiser.state[image]

    def needed(self, role: str) -> int | None:
        return None if role == "start" else math.ceil(self.size * (self.style_scale if role in ("style", "style2") else 1))

    def schedule(self, network: Network, size: tuple[int, int], start: Tensor | None = None) -> list[tuple[tuple[int, int], int]]:
        """The (height, width) of every scale for a result of (height, width), and its steps.

        Scales that the start picture has already are left out, but for the last.
        """
        sizes = pyramid(size, self.scales, 2**0.5, 2 * network.spec.smallest)
        schedule = [(one, max(1, round(self.steps * FEWER**i))) for i, one in enumerate(sizes)]
        passed = 0 if start is None else max(size_of(start))
        return [one for one in schedule[:-1] if max(one[0]) > passed] + schedule[-1:]

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        target = fitted_size(size, self.size)
        schedule = self.schedule(network, target)
        (height, width), _ = schedule[-1]
        pixels, image = height * width, IMAGE_BYTES * height * width
        others = {"style": size, **others}
        regions = 1 + ("style2" in others) if "mask" in others else 0
        layers = self.layers(network)
        side = tiles.largest(self.bytes(network), MEMORY * tiles.allowed(), tiled=network.tiled(layers))
        around = tiles.reach(network, layers)
        step = tiles.peak((height, width), self.bytes(network, regions), side, around)
        # The styles stay as they were handed in; each is looked at as large as its strokes are wanted.
        styles = [others[role] for role in ("style", "style2") if role in others]
        sized = [self.style_size(style, max(target)) for style in styles]
        style_bytes = self.style_bytes(network)
        step = max(step, *(tiles.peak(one, style_bytes, side, around, share=tiles.HEAP_SHARE_FORWARD) for one in sized))
        held = IMAGE_BYTES * sum(map(math.prod, [*styles, *sized])) + self.kept(network) * pixels
        held += (IMAGES_HELD + 2 * remembered(image)) * image
        return Demand(
            flops=sum(h * w * count for (h, w), count in schedule) * network.cost(layers).flops,
            bytes=max(held + step, handed_in(size, *others.values())),
            eigen=sum(count for _, count in schedule) * self.eigen(network),
        )

    def eigen(self, network: Network) -> float:
        """What the eigenvalues of one step take, as `Demand` counts them."""
        if self.statistic != "wasserstein" or not self.style_strength:
            return 0.0
        return float(sum(network.channels(layer) ** 3 for layer in self.weights(network, "style_layers")))

    def layers(self, network: Network) -> list[str]:
        """All that a step asks for."""
        return [*self.weights(network, "style_layers"), *self.weights(network, "content_layers"), INPUT]

    def bytes(self, network: Network, regions: int = 0) -> float:
        """What a step takes for each pixel: the network's own, and the feature maps of style layers in float32, beside the one
        that is 1 everywhere. In each of `regions` of a mask they are there as they are and weighted by it.
        """
        return network.cost(self.layers(network)).bytes + 4 * max(1, 2 * regions) * self.maps(network, "style_layers")

    def style_bytes(self, network: Network) -> float:
        """What it takes to look at a style, for each pixel of it."""
        forward = network.cost(self.weights(network, "style_layers")).forward_bytes
        return forward + 4 * self.maps(network, "style_layers")

    def kept(self, network: Network) -> float:
        """For each pixel of the content: its activations."""
        return 4 * self.maps(network, "content_layers")

    def maps(self, network: Network, name: str) -> float:
        """Values for each pixel in the feature maps of the layers of a field."""
        return sum(network.channels(layer) / network.receptive_field(layer).stride ** 2 for layer in self.weights(network, name))

    def weights(self, network: Network, name: str) -> dict[str, float]:
        """The layers of a field and their weights, which add up to 1.

        Where the field is empty they are the network's own, and a layer weighs the less the coarser it is: colours and strokes
        are to be right, and what deep layers see gives way to the content. After Crowson (2021).
        """
        own = {"style_layers": network.spec.style_layers, "content_layers": (network.spec.content_layer,)}[name]
        chosen = {layer: weight for layer, weight in parse_weights(getattr(self, name)).items() if weight}
        chosen = chosen or {layer: network.receptive_field(layer).stride ** -FALL for layer in own}
        return {layer: weight / sum(chosen.values()) for layer, weight in chosen.items()}

    def sized(self, style: Tensor, longest: int, smallest: int = 1) -> Tensor:
        """The style picture at the size its strokes shall have beside a content of `longest` pixels; never enlarged.

        One that is narrower than `smallest` is continued by its mirror image, which changes nothing of its statistics.
        """
        return mirrored(resize(style, self.style_size(size_of(style), longest)).clamp(0, 1), smallest)

    def style_size(self, size: tuple[int, int], longest: int) -> tuple[int, int]:
        """The (height, width) of a style of (height, width), beside a content of `longest` pixels."""
        return fitted_size(size, min(round(longest * self.style_scale), max(size)))

    def coloured(self, image: Tensor, content: Tensor) -> Tensor:
        """The result, with the colours that are wanted."""
        if self.colours != "content":
            return image
        return (content + luminance(image) - luminance(content)).clamp(0, 1)

    @torch.no_grad()
    def wanted(
        self,
        network: Network,
        content: Tensor,
        styles: Sequence[tuple[Tensor, Tensor | None]],
        mask: Tensor | None,
        visible: Tensor | None,
        side: int,
    ) -> "Wanted":
        """What is wanted at the size of `content`: its activations, and the statistics of the styles, everywhere or by region.

        A style comes with its opacity, None where all of it is opaque. `mask` and `visible`, the opacity of the content, are
        (1, 1, H, W) of the same size. By tiles of at most `side` pixels.
        """
        longest, smallest = max(size_of(content)), network.spec.smallest
        pairs = [
            (self.sized(style, longest, smallest), opacity if opacity is None else self.sized(opacity, longest, smallest))
            for style, opacity in styles
        ]
        if self.colours == "content":
            content, pairs = luminance(content), [(luminance(style), opacity) for style, opacity in pairs]
        if self.colours != "style":
            pairs = [(match_colours(style, content, opacity, visible), opacity) for style, opacity in pairs]
        content_layers, style_layers = (self.weights(network, name) for name in ("content_layers", "style_layers"))
        targets = [moments_of(network, style, style_layers, side, opacity) for style, opacity in pairs]
        if mask is None and len(targets) == 2:
            one, other = targets
            targets = [{layer: blend(one[layer], other[layer], self.style_blend) for layer in style_layers}]
        regions = []
        parts: list[Tensor | None] = [visible] if mask is None else [mask, 1 - mask]
        if mask is not None and visible is not None:
            parts = [mask * visible, (1 - mask) * visible]
        area = 1.0 if visible is None else visible.mean()
        for where, target in zip(parts, targets, strict=False):
            counts = {} if where is None else counts_of(network, where, style_layers)
            distances = {layer: STATISTICS[self.statistic](target[layer]) for layer in style_layers}
            regions.append(Region(1.0 if where is None else where.mean() / area, counts, distances))
        targets_of_content = tiles.activations_of(network, content, content_layers, side, continued=True)
        counts = {} if visible is None else counts_of(network, visible, content_layers)
        return Wanted(network, targets_of_content, content_layers, counts, regions, style_layers)


@dataclass(frozen=True)
class Region:
    """A part of the image, and the style that is wanted there."""

    share: Tensor | float
    """Of the image's area."""
    counts: Mapping[str, Tensor]
    """Layer → how much each of its positions counts, (1, 1, h, w); no layer where all count alike."""
    distances: Mapping[str, Distance]
    """Layer → how far moments are from the style's."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of an image, and how far one of the same size is from it."""

    network: Network
    content: Mapping[str, Tensor]
    """Layer → activations (1, C, h, w)."""
    content_layers: Mapping[str, float]
    """Layer → weight."""
    content_counts: Mapping[str, Tensor]
    """Layer → how much each of its positions counts, (1, 1, h, w); no layer where all count alike."""
    regions: Sequence[Region]
    style_layers: Mapping[str, float]
    """Layer → weight."""

    def compare(self, image: Tensor, settings: StyleTransfer, side: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Distances by name, the loss () with the strengths of `settings`, and its gradient (1, 3, H, W).

        By tiles of at most `side` pixels, and exact for the whole of it all the same: what layers answer is summed over all
        tiles first, then each tile gets its gradient from what the finished sums say.
        """
        style_layers = [*self.style_layers] if settings.style_strength else []
        content_layers = [*self.content_layers] if settings.content_strength else []
        layers = (style_layers, content_layers)
        pieces = [(tile, seen(image, tile)) for tile in tiles.tiling(self.network, image, [*style_layers, *content_layers], side)]
        with torch.set_grad_enabled(len(pieces) == 1):
            answers = [self._sums(*piece, *layers) for piece in pieces]
        with torch.enable_grad():
            totals = [sum(values).detach().requires_grad_() for values in zip(*answers, strict=True)]
            measures = self._distances(totals, *layers)
            whole = image.detach().requires_grad_()
            loss = settings.smoothness * SMOOTHNESS * total_variation(INPUT)({INPUT: whole})
            for layer in style_layers:
                loss = loss + settings.style_strength * STYLE * self.style_layers[layer] * measures[layer]
            if content_layers:
                loss = loss + settings.content_strength * measures["content"]
            gradient, *pushes = torch.autograd.grad(loss, [whole, *totals])
            for (tile, part), sums in zip(pieces, answers, strict=True):
                sums = sums if len(pieces) == 1 else self._sums(tile, part, *layers)
                gradient[(..., *tile.seen)] += torch.autograd.grad(sums, part, pushes)[0]
        return {name: value.detach() for name, value in measures.items()}, loss.detach(), gradient

    def _sums(self, tile: tiles.Tile, part: Tensor, style_layers: Sequence[str], content_layers: Sequence[str]) -> list[Tensor]:
        """All that is summed over positions, for those of a tile: region by region moments, then squared errors."""
        answer = tiles.inside(self.network, tile, part, [*style_layers, *content_layers], continued=True)
        sums = []
        for region in self.regions:
            for layer in style_layers:
                place, activations = answer[layer]
                sums.append(moments(activations, at(region.counts, layer, place, activations)))
        for layer in content_layers:
            place, activations = answer[layer]
            sums.append(self._squares(layer, place, activations - self.content[layer][(..., *place)]))
        return sums

    def _squares(self, layer: str, place: tiles.Slices, values: Tensor) -> Tensor:
        """The sum of squares of values at some positions of a content layer, each counted as it should be."""
        counts = at(self.content_counts, layer, place, values)
        return values.square().sum() if counts is None else (values.square() * counts).sum()

    def _distances(self, totals: list[Tensor], style_layers: Sequence[str], content_layers: Sequence[str]) -> dict[str, Tensor]:
        """Style layer → distance; "content" → distance: relative, so that a strength is the same everywhere."""
        left = iter(totals)
        parts = [{layer: region.share * region.distances[layer](next(left)) for layer in style_layers} for region in self.regions]
        found = {layer: reduce(add, (part[layer] for part in parts)) for layer in style_layers}
        if content_layers:
            everywhere = (slice(None), slice(None))
            sizes = {layer: self._squares(layer, everywhere, self.content[layer]).clamp_min(TINY) for layer in content_layers}
            errors = {layer: next(left) / sizes[layer] for layer in content_layers}
            found["content"] = reduce(add, (self.content_layers[layer] * error for layer, error in errors.items()))
        return found


def seen(image: Tensor, tile: tiles.Tile) -> Tensor:
    """What a tile sees of an image (1, 3, H, W), as a leaf of its own."""
    return image[(..., *tile.seen)].detach().requires_grad_()


def moments_of(
    network: Network, image: Tensor, layers: Collection[str], side: int, opacity: Tensor | None = None
) -> dict[str, Tensor]:
    """Layer → the moments of its activations over the whole image, by tiles; each position counts as much as it is opaque."""
    sums = dict.fromkeys(layers, image.new_zeros(()))
    counts = {} if opacity is None else counts_of(network, opacity, layers)
    for tile in tiles.tiling(network, image, layers, side):
        inside = tiles.inside(network, tile, image[(..., *tile.seen)], layers, continued=True)
        for layer, (place, activations) in inside.items():
            sums[layer] = sums[layer] + moments(activations, at(counts, layer, place, activations))
    return sums


def counts_of(network: Network, where: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
    """Layer → how much each of its positions counts, (1, 1, h, w), for weights of pixels (1, 1, H, W)."""
    entered = network.adapt_size(where)
    return {layer: pooled(where if layer == INPUT else entered, network.receptive_field(layer).stride) for layer in layers}


def at(counts: Mapping[str, Tensor], layer: str, place: tiles.Slices, activations: Tensor) -> Tensor | None:
    """How much each of these activations counts, None where all count alike.

    A network that rounds sizes down has left the last row or column out.
    """
    if not counts:
        return None
    height, width = activations.shape[-2:]
    return counts[layer][(..., *place)][..., :height, :width]


def pooled(mask: Tensor, stride: int) -> Tensor:
    """A mask (1, 1, H, W) as the activations of a layer count its pixels: mean over squares of `stride`."""
    return functional.avg_pool2d(mask, stride, ceil_mode=True, count_include_pad=False)


def noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """An image of the same size, grey but for faint noise."""
    return (0.5 + 0.1 * torch.randn(like.shape, generator=generator).to(like)).clamp(0, 1)
