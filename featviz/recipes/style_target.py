"""The target of a style transfer at one size: activations of the content and statistics of the styles, everywhere or by region."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from featviz.networks.network import Network
from featviz.networks.table import INPUT
from featviz.optimise import tiles
from featviz.optimise.colours import match_colours
from featviz.optimise.gradients import luminance
from featviz.optimise.neighbours import TURNS, Neighbours, StyleCells, cells_of, neighbours_of
from featviz.optimise.objectives import total_variation
from featviz.optimise.precision import TINY, wide
from featviz.optimise.regions import Style
from featviz.optimise.scaling import fitted_size, mirrored, resize, size_of
from featviz.optimise.self_similarity import SelfSimilarity
from featviz.optimise.squares import energy, squared_distance
from featviz.optimise.style_statistics import STATISTICS, Distance, blend, moments, wasserstein_distance
from featviz.optimise.tile_reports import report, viewed

if TYPE_CHECKING:
    from featviz.recipes.style_transfer import StyleTransfer

CONTENT, STYLE, SMOOTHNESS = 2.5, 32.0, 240.0
"""Weights of content_strength 1, style_strength 1 and smoothness 1, chosen by the leaderboard of `benchmarks/quality.py` and by eye. All
distances are relative to their target, so the numbers hold for every network, layer and size."""

NEIGHBOURS = 0.5
"""Weight of the distance from nearest neighbours against that of statistics."""

STRIDE_EXPONENT = 1.0
"""Default weights of style layers are 1 / stride^1: each layer of half the size weighs half of the one before."""


@dataclass(frozen=True)
class Comparison:
    """What a style transfer compares, by which network, and what that takes."""

    network: Network
    style_layers: Mapping[str, float]
    """Layer → its weight in the distance. The weights add up to 1."""
    content_layers: Mapping[str, float]
    """Layer → its weight in the distance. The weights add up to 1."""
    statistic: str
    """A key of `STATISTICS`."""
    content_comparison: str
    """"activations" or "self-similarity"."""
    colours: str
    """"style", "matched" or "content", as in the field of the recipe."""
    style_scale: float
    """Size of the style against the content."""

    @property
    def layers(self) -> list[str]:
        """The layers that a step needs."""
        return [*self.style_layers, *self.content_layers, INPUT]

    @property
    def step_bytes(self) -> float:
        """Bytes of a step for each pixel."""
        return self.network.cost(self.layers, native=True).bytes

    @property
    def style_bytes(self) -> float:
        """Bytes for the statistics of a style, for each of its pixels."""
        return self.network.cost(self.style_layers, native=True).forward_bytes

    @property
    def content_bytes(self) -> float:
        """Bytes of the content's activations, for each pixel."""
        return self.network.dtype.itemsize * sum(tiles.values_per_pixel(self.network, layer) for layer in self.content_layers)

    @property
    def eigen(self) -> float:
        """Cost of the eigenvalues of one step, in the unit of `Demand.eigen`."""
        if STATISTICS[self.statistic] is not wasserstein_distance:
            return 0.0
        return float(sum(self.network.channels(layer) ** 3 for layer in self.style_layers))

    def style_size(self, size: tuple[int, int], longest: int) -> tuple[int, int]:
        """Return the (height, width) to which `sized` scales a style of (height, width)."""
        return fitted_size(size, min(round(longest * self.style_scale), max(size)))

    def sized(self, style: Tensor, longest: int) -> Tensor:
        """Return a style picture at the size for its strokes, for a content whose longest side is `longest`; never enlarged.

        If a side is too small for the network, the picture is continued by its mirror image, which keeps its statistics.
        """
        scaled = resize(style, self.style_size(size_of(style), longest)).clamp(0, 1)
        return mirrored(scaled, self.network.spec.smallest)

    @torch.no_grad()
    def target(
        self,
        content: Tensor,
        styles: Sequence[Style],
        where: Tensor | None,
        opacity: Tensor | None,
        side: int,
        *,
        guide: Tensor | None = None,
        prepared: Prepared | None = None,
        shares: Sequence[float] = (1.0,),
    ) -> Target:
        """Return the activations of the content and the statistics of the styles, everywhere or by region.

        `guide` is the picture of the size of `content` whose nearest neighbours in the style are sought; None for the content.
        `where`, (1, styles, H, W) as in `paint`, and `opacity` of the content, (1, 1, H, W), are of the size of `content`. `prepared`
        has the styles for the latest size of the content, and gets those for this one. `shares` are those of the styles in their
        mixture, if `where` is None. By tiles of at most `side` pixels.
        """
        network, style_layers = self.network, self.style_layers
        prepared = {} if prepared is None else prepared
        if self.colours == "content":
            content, guide = luminance(content), guide if guide is None else luminance(guide)
        if size_of(content) not in prepared:
            prepared.clear()  # A smaller size does not come again.
            with viewed(None):
                prepared[size_of(content)] = self.prepare(
                    content, styles, opacity, side, shares=shares if where is None else None
                )
        all_cells, all_distances = prepared[size_of(content)]
        image = content if guide is None else guide
        neighbours = [neighbours_of(network, image, cells, side, visible=opacity) for cells in all_cells]
        if where is None and len(neighbours) > 1:
            neighbours = [Neighbours.mixed(neighbours, shares)]
        regions: list[Region] = []
        parts: Sequence[Tensor | None] = [opacity]
        if where is not None:
            parts = [part if opacity is None else part * opacity for part in where.split(1, 1)]
        area = 1.0 if opacity is None else opacity.mean()
        for part, distances in zip(parts, all_distances, strict=True):
            counts = {} if part is None else counts_of(network, part, style_layers)
            share = 1.0 if part is None else part.mean() / area
            regions.append(Region(share, counts, distances, neighbours[len(regions)] if neighbours else None))
        activations = tiles.activations_of(network, content, self.content_layers, side, continued=True, native=True)
        counts = {} if opacity is None else counts_of(network, opacity, self.content_layers)
        weights_of = {layer: at(counts, layer, tiles.EVERYWHERE, maps) for layer, maps in activations.items()}
        similarities = {}
        if self.content_comparison == "self-similarity":
            similarities = {
                layer: SelfSimilarity.of(maps.to(wide(maps)), weights_of[layer]) for layer, maps in activations.items()
            }
        energies = {layer: energy(maps, weights_of[layer]) for layer, maps in activations.items()}
        return Target(network, activations, self.content_layers, counts, energies, regions, style_layers, similarities)

    def prepare(
        self,
        content: Tensor,
        styles: Sequence[Style],
        opacity: Tensor | None,
        side: int,
        *,
        shares: Sequence[float] | None,
    ) -> PreparedStyles:
        """Return the styles for a content. With `shares`, all styles become one distance. Arguments are those of `target`."""
        network, style_layers, longest = self.network, self.style_layers, max(size_of(content))
        pairs = [
            (self.sized(style, longest), weights if weights is None else self.sized(weights, longest))
            for style, weights in styles
        ]
        if self.colours == "content":
            pairs = [(luminance(style), weights) for style, weights in pairs]
        if self.colours != "style":
            pairs = [(match_colours(style, content, weights, opacity), weights) for style, weights in pairs]
        statistics = [moments_of(network, style, style_layers, side, weights) for style, weights in pairs]
        if shares is not None and len(statistics) > 1:
            statistics = [{layer: blend([sums[layer] for sums in statistics], shares) for layer in style_layers}]
        distances = [{layer: STATISTICS[self.statistic](sums[layer]) for layer in style_layers} for sums in statistics]
        turns = TURNS.get(self.statistic, 0)
        cells = [
            cells_of(network, size_of(content), style, [*style_layers], side, turns=turns, opacity=weights)
            for style, weights in pairs
            if turns
        ]
        return PreparedStyles(cells, distances)


class PreparedStyles(NamedTuple):
    """The styles for a content of one size. They do not change in a shot of a video."""

    cells: Sequence[StyleCells]
    """Of each style, if the statistic has neighbours."""
    distances: Sequence[Mapping[str, Distance]]
    """For each region: {layer: the distance of moments from those of the style}."""


Prepared = dict[tuple[int, int], PreparedStyles]
"""(height, width) of the latest content → the styles for it."""


@dataclass(frozen=True)
class Region:
    """A part of the image, and its target style."""

    share: Tensor | float
    """Its share of the image's area."""
    counts: Mapping[str, Tensor]
    """Layer → the weight of each position, (1, 1, h, w); empty if all weigh the same."""
    distances: Mapping[str, Distance]
    """Layer → the distance of moments from those of the style."""
    neighbours: Neighbours | None = None
    """The nearest neighbours in the style, if the statistic has them."""

    def sums(self, layer: str, place: tiles.Area, activations: Tensor) -> list[Tensor]:
        """Return what `distance` needs of activations (1, C, h, w) at a place of a layer; it adds up over places."""
        weights = at(self.counts, layer, place, activations)
        sums = [moments(activations, weights)]
        if self.neighbours is not None:
            sums.append(self.neighbours.squares(layer, place, activations, weights))
        return sums

    def distance(self, layer: str, sums: Iterator[Tensor]) -> Tensor:
        """Return the relative distance of a layer, (), from the next of the sums."""
        distance = self.distances[layer](next(sums))
        if self.neighbours is not None:
            distance = distance + NEIGHBOURS * next(sums) / self.neighbours.energy(layer, self.counts.get(layer))
        return distance


@dataclass(frozen=True)
class Target:
    """The target of the optimisation at one size."""

    network: Network
    content: Mapping[str, Tensor]
    """Layer → activations (1, C, h, w), in the type that the network computes in: at 2048 pixels, float32 would take 350 MB more."""
    content_layers: Mapping[str, float]
    """Layer → weight."""
    content_counts: Mapping[str, Tensor]
    """Layer → the weight of each position, (1, 1, h, w); empty if all weigh the same."""
    content_energies: Mapping[str, Tensor]
    """Layer → the `energy` of the content's activations, (). Computed before the steps, so that no step holds their squares."""
    regions: Sequence[Region]
    style_layers: Mapping[str, float]
    """Layer → weight."""
    similarities: Mapping[str, SelfSimilarity]
    """Content layer → the self-similarity that is compared; empty if activations are."""

    def compare(self, image: Tensor, settings: StyleTransfer, side: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return distances by name, the loss () with the strengths of `settings`, and its gradient (1, 3, H, W).

        By tiles of at most `side` pixels, and still exact: statistics are summed over all tiles first. The gradient with
        respect to these sums is then carried back tile by tile. All tiles but the last are computed twice.
        """
        style_layers = [*self.style_layers] if settings.style_strength else []
        content_layers = [*self.content_layers] if settings.content_strength else []
        layers = (style_layers, content_layers)
        with torch.enable_grad():  # Before the passes: its intermediate images would not fit beside theirs.
            whole = image.detach().requires_grad_()
            variation = total_variation(INPUT)({INPUT: whole})
            (gradient,) = torch.autograd.grad(variation, whole)
        loss, gradient = (settings.smoothness * SMOOTHNESS * value for value in (variation.detach(), gradient))
        pieces = [(tile, leaf(image, tile)) for tile in tiles.tiling(self.network, image, [*style_layers, *content_layers], side)]
        sums_of_tiles = []
        with torch.no_grad():
            for number, piece in enumerate(pieces[:-1], start=1):
                sums_of_tiles.append(self._sums(*piece, *layers))
                report(number, len(pieces), piece[0].core)
        with torch.enable_grad():
            sums_of_tiles.append(self._sums(*pieces[-1], *layers))  # The graph of one tile fits into memory.
            totals = [sum(values).detach().requires_grad_() for values in zip(*sums_of_tiles, strict=True)]
            measures = self._distances(totals, *layers)
            for layer in style_layers:
                loss = loss + settings.style_strength * STYLE * self.style_layers[layer] * measures[layer]
            if content_layers:
                loss = loss + settings.content_strength * CONTENT * measures["content"]
            sum_gradients = torch.autograd.grad(loss, totals)
            for number, (tile, part) in enumerate(reversed(pieces), start=1):
                sums = sums_of_tiles[-1] if part is pieces[-1][1] else self._sums(tile, part, *layers)
                report(number, len(pieces), tile.core)
                gradient[(..., *tile.seen)] += torch.autograd.grad(sums, part, sum_gradients)[0]
                report(number, len(pieces), tile.seen, gradient)
        return {name: value.detach() for name, value in measures.items()}, loss.detach(), gradient

    def _sums(self, tile: tiles.Tile, part: Tensor, style_layers: Sequence[str], content_layers: Sequence[str]) -> list[Tensor]:
        """Return the sums over the positions of a tile: the moments of each region, then the squared errors of the content."""
        activations_of_layer = tiles.tile_activations(
            self.network, tile, part, [*style_layers, *content_layers], continued=True, native=True
        )
        sums: list[Tensor] = []
        for region in self.regions:
            for layer in style_layers:
                sums += region.sums(layer, *activations_of_layer[layer])
        for layer in content_layers:
            place, activations = activations_of_layer[layer]
            if layer in self.similarities:
                sums.append(self.similarities[layer].vectors(place, activations.to(wide(activations))))
            else:
                counts = at(self.content_counts, layer, place, activations)
                sums.append(squared_distance(activations, self.content[layer][(..., *place)], counts))
        return sums

    def _distances(self, totals: list[Tensor], style_layers: Sequence[str], content_layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the relative distances by name: of each style layer, and "content"."""
        remaining = iter(totals)
        parts = [{layer: region.share * region.distance(layer, remaining) for layer in style_layers} for region in self.regions]
        distances = {layer: reduce(add, (part[layer] for part in parts)) for layer in style_layers}
        if content_layers and self.similarities:
            errors = {layer: self.similarities[layer].distance(next(remaining)) for layer in content_layers}
            distances["content"] = reduce(add, (self.content_layers[layer] * error for layer, error in errors.items()))
        elif content_layers:
            errors = {layer: next(remaining) / self.content_energies[layer].clamp_min(TINY) for layer in content_layers}
            distances["content"] = reduce(add, (self.content_layers[layer] * error for layer, error in errors.items()))
        return distances


def own_style_layers(network: Network) -> dict[str, float]:
    """Return the style layers of a network's row with weights. Coarse layers weigh less: colours and strokes come from the style,
    large structures from the content. After Crowson (2021)."""
    return {layer: network.receptive_field(layer).stride ** -STRIDE_EXPONENT for layer in network.spec.style_layers}


def own_content_layers(network: Network) -> dict[str, float]:
    """Return the content layer of a network's row, and its style layers between the full size and the size of that, all of one weight.

    A deep layer alone keeps objects and loses what is small in them: the eyes, the mouth and the expression of a face.
    """
    deepest = network.spec.content_layer
    strides = {layer: network.receptive_field(layer).stride for layer in (*network.spec.style_layers, deepest)}
    return {layer: 1.0 for layer in strides if layer == deepest or 1 < strides[layer] < strides[deepest]}


@dataclass(frozen=True)
class Held:
    """What an image is held to, pixel by pixel."""

    image: Tensor
    """(1, 3, H, W)."""
    weights: Tensor
    """(1, 1, H, W)."""

    def loss(self, image: Tensor) -> Tensor:
        """Return the weighted mean square error of an image (1, 3, H, W), ()."""
        return (self.weights * (image - self.image).square()).mean()

    def gradient(self, image: Tensor) -> Tensor:
        """Return the gradient of `loss` (1, 3, H, W)."""
        return self.weights * (image - self.image) * (2 / image.numel())


def leaf(image: Tensor, tile: tiles.Tile) -> Tensor:
    """Return a tile of an image (1, 3, H, W) with its margin, as a tensor whose gradient can be taken."""
    return image[(..., *tile.seen)].detach().requires_grad_()


def moments_of(
    network: Network, image: Tensor, layers: Collection[str], side: int, opacity: Tensor | None = None
) -> dict[str, Tensor]:
    """Return {layer: moments of its activations over the whole image}, by tiles; opacity weighs the positions."""
    sums = dict.fromkeys(layers, image.new_zeros(()))
    counts = {} if opacity is None else counts_of(network, opacity, layers)
    pieces = [*tiles.tiling(network, image, layers, side)]
    for number, tile in enumerate(pieces, start=1):
        activations_of_layer = tiles.tile_activations(
            network, tile, image[(..., *tile.seen)], layers, continued=True, native=True
        )
        for layer, (place, activations) in activations_of_layer.items():
            sums[layer] = sums[layer] + moments(activations, at(counts, layer, place, activations))
        report(number, len(pieces), tile.core)
    return sums


def counts_of(network: Network, where: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
    """Return {layer: the weight of each position, (1, 1, h, w)}, for weights of pixels (1, 1, H, W)."""
    fitted = network.adapt_size(where)
    return {layer: pooled(where if layer == INPUT else fitted, network.receptive_field(layer).stride) for layer in layers}


def at(counts: Mapping[str, Tensor], layer: str, place: tiles.Area, activations: Tensor) -> Tensor | None:
    """Return the weights of these activations, None if all weigh the same.

    They are cut to the size of the activations: a network that rounds sizes down leaves out the last row or column.
    """
    if not counts:
        return None
    height, width = activations.shape[-2:]
    return counts[layer][(..., *place)][..., :height, :width]


def pooled(mask: Tensor, stride: int) -> Tensor:
    """Return the mean of a mask (1, 1, H, W) over squares of `stride` pixels, one for each activation of a layer."""
    return functional.avg_pool2d(mask, stride, ceil_mode=True, count_include_pad=False)
