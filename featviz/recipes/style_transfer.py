"""Style transfer: the content of one picture in the style of another (Gatys et al., 2016)."""

import math
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn import functional

from featviz.errors import FieldError, InputError, nearest
from featviz.networks.network import Network
from featviz.networks.table import INPUT, NETWORKS, NetworkName
from featviz.optimise import bilateral_grid, tiles
from featviz.optimise.colours import match_colours
from featviz.optimise.gradients import blur, luminance, soften
from featviz.optimise.neighbours import TURNS, Neighbours, StyleCells, cells_of, matching_cost, neighbours_of
from featviz.optimise.objectives import total_variation
from featviz.optimise.optimisers import OPTIMISERS, Optimiser, history_length
from featviz.optimise.parameterization import Average, pyramid
from featviz.optimise.precision import TINY, exact, wide
from featviz.optimise.regions import Style, matched
from featviz.optimise.scaling import fit, fitted_size, mirrored, resize, size_of
from featviz.optimise.self_similarity import PAIR_BYTES, SelfSimilarity
from featviz.optimise.squares import energy, squared_distance
from featviz.optimise.style_statistics import BLACK, STATISTICS, Distance, Statistic, blend, moments, wasserstein_distance
from featviz.optimise.transforms import Roll
from featviz.recipes.following import STEADINESS, Before, Follower
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

CONTENT, STYLE, SMOOTHNESS = 2.5, 32.0, 240.0
"""Weights of content_strength 1, style_strength 1 and smoothness 1, chosen by the leaderboard of `benchmarks/quality.py` and by eye. All
distances are relative to their target, so the numbers hold for every network, layer and size."""

IMAGES_HELD = 22
"""Copies of the image that a run holds at once, without the history of L-BFGS."""

IMAGES_RECOLOURED = 6
"""Copies of the image at its own size that a run holds where only colours change."""

STRIDE_EXPONENT = 1.0
"""Default weights of style layers are 1 / stride^1: each layer of half the size weighs half of the one before."""

STEPS_RATIO = 0.7
"""Steps of a scale, relative to those of the next smaller one: large structures are finished by then."""

NEIGHBOURS, GUIDED = 0.5, 0.75
"""Weight of the distance from nearest neighbours against that of statistics. And the share of the picture so far in the picture whose
neighbours are sought, beside the content (Kolkin et al., 2022); at the first scale it is the content alone."""

COARSEST = 160
"""Least longest side, in pixels, of sizes that double. Smaller ones cost little, but lose the content."""

LEAST_STEPS = 4
"""Least steps of a scale, if the field `steps` is not less: with fewer, fine detail is still that of the content."""

FOLLOWING = 0.2
"""Work of a video frame that starts from the result before, relative to that of a still."""

HELD = 150.0
"""Weight at steadiness 1 of the mean square error from the result before, moved, in units of 1. See `STYLE`."""

REACH = 16
"""The part of the longest side over which tones are taken from what is around, as the deviation of a Gaussian."""

RECOLOURED = 256
"""Longest side, in pixels, at which colours alone are fitted: they need no detail, and the result is computed at any size."""

COARSEST_COLOURS = 4
"""Largest stride of the default style layers where only colours change. Deeper layers ask for contrast that posterises faces."""

ROUGHNESS = 3000.0
"""Weight of the roughness of a bilateral grid against the distances of `STYLE`: with less, an even sky gets spots of colour."""

BEYOND = 10.0
"""Weight of the mean squared distance of recoloured pixels from [0, 1]. They are clipped to it, and that loses detail."""

EVERYWHERE = slice(None), slice(None)
"""The area of a whole feature map."""

ASSUMED_REGIONS = 4
"""Regions of the style that an estimate assumes, where there are any: their number is known once the picture is opened."""

RIDGE = 1e-6
"""Added to mean squares of colours, so that also those of a grey picture determine an affine map."""


class StyleTransfer(Recipe):
    """Repaint the content of one picture in the style of another (Gatys et al., 2016)."""

    name: ClassVar[str] = "style_transfer"
    title: ClassVar[str] = "Style Transfer"
    tab_group: ClassVar[str] = "Style Transfer"
    action: ClassVar[str] = "Transfer the style"
    sweep_action: ClassVar[str] = "Compare strengths and brush sizes"
    sweep_caption: ClassVar[str] = "The same two pictures, small, with other strengths and brush sizes."
    mask_action: ClassVar[str] = "Paint where to use the style"
    explanation: ClassVar[str] = """\
A network sees two things in a picture that can be separated: **what is in it, and how it is painted.**

1. **Content.** Deeper layers know which objects there are and how they are arranged. They depend little on texture and
   colour. Their activations are the *content representation* of the first picture.
2. **Style.** The correlations between a layer's feature maps say which features occur *together*, for example blue with
   curved strokes. They keep texture and colour, and lose all places: the *style representation* of the second picture.
3. **Combine.** The result starts as the content picture. Step by step its pixels are changed until the network finds in it
   the content of the first and the style of the second.

*Try it: more style strength. At some point the objects begin to dissolve.*
"""
    images: ClassVar[dict[str, str]] = {
        "content": "The picture whose objects and arrangement are kept.",
        "style": "The picture whose textures and colours are taken.",
    }
    optional_images: ClassVar[dict[str, str]] = {
        "style2": "A second style, mixed with the first, or for what is outside the mask.",
        "mask": "Where to paint: white for here, black or transparent for not here, grey for in between.",
        "start": "A result to go on from; the scales that it has passed already are left out.",
        "regions": "The content's regions, as areas of plain colours: the brightest gets the first style, the next one the second.",
        "style_regions": "The style's regions: each is used for the content's region of the same colour.",
    }

    sweep_fields: ClassVar[tuple[str, ...]] = ("style_strength", "style_scale")
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(("style_blend", "blend_change"), "there is one style", without="style2", refused=False),
        Rule(("style_blend", "blend_change"), "each style has its own region", beside="mask", refused=False),
        Rule(("style_blend", "blend_change"), "each style has its own region", beside="regions", refused=False),
        Rule(("mask",), "regions say where each style is used", beside="regions"),
        Rule(("style2",), "all regions are those of one style", beside="style_regions"),
        Rule(("style_regions",), "there are no regions to match", without="regions"),
        Rule(("start", "init", "scales", "smoothness"), "the picture keeps its edges", beside="repaint", refused=False),
    )
    opacity_roles: ClassVar[tuple[str, ...]] = ("content", "style", "style2", "regions", "style_regions")
    follows_video: ClassVar[bool] = True
    roles_of_stills: ClassVar[tuple[str, ...]] = ("start", "regions", "style_regions")

    style_strength: float = param(1.0, "Pull towards the style.", ge=0, le=10, step=0.1, live=True)
    content_strength: float = param(1.0, "Pull towards the content.", ge=0, le=10, step=0.1, live=True)
    size: int = param(768, "Longest side of the result, in pixels.", ge=64, le=4096, step=16, usual=1536)
    network: NetworkName = param("vgg19", "Network that compares the pictures.")

    style_scale: float = param(
        1.0, "Size of the style against the content: larger gives larger strokes.", ge=0.25, le=4, step=0.05, group="Style"
    )
    style_blend: float = param(
        0.5, "Share of the second style in the mixture, where there is one and no mask.", ge=0, le=1, step=0.05, group="Style"
    )
    blend_change: float = param(
        0.0,
        "Growth of the second style's share from the smallest scale to the largest: with 1, the first style gives coarse structure, "
        "and the second fine structure.",
        ge=-1,
        le=1,
        step=0.05,
        group="Style",
    )
    repaint: Literal["pixels", "colours"] = param(
        "pixels",
        "What changes: pixels, or only colour and light, smoothly, so that a photograph still looks like one.",
        group="Style",
    )
    colours: Literal["style", "matched", "content"] = param(
        "style",
        "Colours of the result: the style's, the content's by recolouring the style, or the content's by painting only brightness.",
        group="Style",
    )
    statistic: Statistic = param(
        "neighbours",
        "What of feature maps is compared: correlations, means and covariances, or their optimal transport; with 'neighbours' also "
        "each place with the most similar one of the style, or of copies of it that are turned.",
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
    content_comparison: Literal["activations", "self-similarity"] = param(
        "activations",
        "What of the content is kept: the activations, or which of its places are alike, whatever their colours.",
        group="Content",
    )
    init: Literal["content", "noise"] = param(
        "content", "What the picture starts from, unless a start picture is given.", group="Content"
    )
    feather: int = param(
        8, "Softness of the mask's edge, in pixels of the result.", ge=0, le=MAX_FEATHER, usual=64, group="Where"
    )
    steps: int = param(
        24,
        "Steps of the optimiser at the smallest scale; each larger one takes 0.7 times as many, or half of that if sizes double.",
        ge=1,
        le=1000,
        usual=200,
        group="Scales",
    )
    scales: int = param(
        0,
        "Sizes the picture passes through, small to large, each √2 times the last; 0 for sizes that double.",
        ge=0,
        le=8,
        group="Scales",
    )
    optimiser: Literal["lbfgs", "adam"] = param(
        "lbfgs", "L-BFGS makes more progress in each step; Adam changes the picture more freely.", group="Scales"
    )
    smoothness: float = param(1.0, "Pull towards even areas (total variation).", ge=0, le=10, step=0.1, group="Finish", live=True)
    seed: int = param(
        0,
        "Seed of the noise, and of the shifts that Adam works with: the same seed gives the same picture.",
        ge=0,
        le=2**31 - 1,
        group="Finish",
    )
    steadiness: float = STEADINESS

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
        """Return small runs of the same pair, with other strengths and stroke sizes."""
        small = {
            "size": size,
            "steps": min(self.steps, 20),
            "scales": 2,
            "feather": min(MAX_FEATHER, round(self.feather * size / self.size)),
        }
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
        regions: Tensor | None = None,
        style_regions: Tensor | None = None,
        opacity: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Frames:
        """Yield a frame after each step of each scale. All images are (1, 3, H, W) in [0, 1].

        `opacity` has (1, 1, H, W) in [0, 1] for those of `content`, `style` and `style2` that are transparent somewhere. It
        weighs the positions in all statistics.

        A second style is mixed with the first. With a mask it applies outside the mask; without a second style, the content
        outside the mask stays unchanged. `regions` and `style_regions` are as in `featviz.optimise.regions.matched`. Differs from
        Gatys et al. (2016): coarse to fine, and distances are relative to their target.

        Raises:
            InputError: a picture is too narrow for the network, a style is black everywhere, the mask selects nothing, or regions
                do not match.
        """
        content = fit(content, self.size, network.spec.smallest)
        styles = _checked(style, style2, opacity)
        if regions is None:
            where = self._inside(mask, size_of(content), len(styles))
        else:
            # Transparent is black.
            regions = regions * opacity.get("regions", 1)
            style_regions = style_regions if style_regions is None else style_regions * opacity.get("style_regions", 1)
            where, styles = matched(regions, style_regions, styles, size_of(content))
            where = blur(where, self.feather / 3) if self.feather else where
        if self.repaint == "colours":
            yield from self.without_neighbours.recolour(network, content, styles, where, opacity.get("content"))
        else:
            yield from self.paint(network, content, styles, where, start, opacity.get("content"), None)

    def _inside(self, mask: Tensor | None, size: tuple[int, int], styles: int) -> Tensor | None:
        """Return where to paint with each style, (1, styles, H, W) in [0, 1], by a mask (1, 3, h, w); None for all everywhere."""
        if mask is None:
            return None
        inside = soften(resize(mask, size), self.feather)
        return inside if styles == 1 else torch.cat([inside, 1 - inside], 1)

    def paint(
        self,
        network: Network,
        content: Tensor,
        styles: Sequence[Style],
        where: Tensor | None,
        start: Tensor | None,
        opacity: Tensor | None,
        prepared: "Prepared | None",
        held: "Held | None" = None,
    ) -> Frames:
        """`run`, for a content of the size of the result.

        `where`: the weight of each style, (1, styles, H, W) in [0, 1]; None for all everywhere. Where a single style has no weight,
        the content stays unchanged. `prepared` is that of `target`. `held`: what the result is held to, beside content and style.
        """
        settings = self
        generator = torch.Generator().manual_seed(self.seed)
        schedule, scales = self.schedule(network, size_of(content), start), len(self.schedule(network, size_of(content)))
        steps, work = (sum(counts) for counts in zip(*((count, count * h * w) for (h, w), count in schedule), strict=True))
        result = start if start is not None else content if self.init == "content" else grey_noise(content, generator)
        cost, allowance = self.bytes(network), tiles.Allowance(tiled=network.tiled(self.layers(network)))
        optimiser: Optimiser | None = None
        step = pixels_done = 0

        for scale, (size, count) in enumerate(schedule, start=1):
            base = resize(content, size).clamp(0, 1)
            scaled_where, scaled_opacity = (
                None if weights is None else resize(weights, size).clamp(0, 1) for weights in (where, opacity)
            )
            region = scaled_where if len(styles) == 1 else None  # The only part of the image that changes.
            latest = self.with_detail(result, content, base) if self.init == "content" else resize(result, size)
            latest = latest.clamp(0, 1)
            guide = None if scale == 1 and held is None else torch.lerp(base, latest, GUIDED)
            target_of = partial(
                self.target, network, base, styles, scaled_where, scaled_opacity,
                guide=guide, prepared=prepared, blend_share=self.blend_share(scales - len(schedule) + scale, scales),
            )  # fmt: skip
            target = allowance.fit(target_of, cost)
            tiles.release_free_memory()  # Small blocks of the passes over styles and content: 0.4 GB at 2048 pixels.
            optimiser = OPTIMISERS[self.optimiser](latest, optimiser)
            del latest, guide, target_of  # The steps do not need these images.
            average = Average(optimiser.averaged)
            for step_of_scale in range(1, count + 1):
                roll = Roll.random(optimiser.jitter, generator)
                painted = optimiser.image if region is None else torch.lerp(base, optimiser.image, region)
                measures, loss, gradient = allowance.fit(partial(target.compare, roll(painted), settings), cost)
                gradient = roll.undo(gradient)
                if held is not None:
                    loss, gradient = loss + held.loss(painted), gradient + held.gradient(painted)
                optimiser.step(gradient if region is None else gradient * region, loss, step_of_scale / count)
                painted = optimiser.image if region is None else torch.lerp(base, optimiser.image, region)
                result = average.update(painted).clamp(0, 1)
                step, pixels_done = step + 1, pixels_done + size[0] * size[1]
                changed_settings = yield Frame(
                    step=step,
                    steps=steps,
                    stage=f"scale {scale} of {len(schedule)}{allowance.remark}",
                    work=pixels_done / work,
                    loss=loss,
                    image=partial(self.coloured, result, base),
                    measures=measures,
                )
                if isinstance(changed_settings, StyleTransfer) and changed_settings != settings:
                    settings = changed_settings
                    optimiser.forget_loss()

    def recolour(
        self, network: Network, content: Tensor, styles: Sequence[Style], where: Tensor | None, opacity: Tensor | None
    ) -> Generator[Frame, Recipe | None, Callable[[Tensor], Frame]]:
        """As `paint`, but what is optimised is a bilateral grid of colours instead of pixels, at `recolour_size`.

        Returns a function that gives another content of that size the same colours.
        """
        settings, size = self, self.recolour_size(network, size_of(content))
        region = where if len(styles) == 1 else None  # The only part of the image that changes.
        base = resize(content, size).clamp(0, 1)
        scaled_where, scaled_opacity = (None if it is None else resize(it, size).clamp(0, 1) for it in (where, opacity))
        cost, allowance = self.bytes(network), tiles.Allowance(tiled=network.tiled(self.layers(network)))
        share = self.blend_share(1, 1)
        target = allowance.fit(partial(self.target, network, base, styles, scaled_where, scaled_opacity, blend_share=share), cost)
        optimiser = OPTIMISERS[self.optimiser](bilateral_grid.neutral(size).to(base))
        for step in range(1, self.steps + 1):
            with torch.enable_grad():
                grid = optimiser.image.detach().requires_grad_()
                recoloured = bilateral_grid.sliced(base, grid)
                painted = recoloured.clamp(0, 1)
                if len(styles) == 1 and scaled_where is not None:
                    painted = torch.lerp(base, painted, scaled_where)
                beyond = BEYOND * (recoloured - recoloured.detach().clamp(0, 1)).square().mean()
                regular = beyond + ROUGHNESS * bilateral_grid.roughness(grid)
            steered = settings.replace(smoothness=0.0)
            measures, loss, gradient = allowance.fit(partial(target.compare, painted.detach(), steered), cost)
            (gradient,) = torch.autograd.grad([painted, regular], grid, [gradient, torch.ones_like(regular)])
            optimiser.step(gradient, loss + regular.detach(), step / self.steps)
            frame = Frame(
                step=step,
                steps=self.steps,
                stage=f"colours{allowance.remark}",
                work=step / self.steps,
                loss=loss,
                image=partial(self.recoloured, content, optimiser.image, region),
                measures=measures,
            )
            changed_settings = yield frame
            if isinstance(changed_settings, StyleTransfer) and changed_settings != settings:
                settings = changed_settings
                optimiser.forget_loss()
        grid = optimiser.image
        return lambda other: frame.replace(step=1, steps=1, work=1.0, image=partial(self.recoloured, other, grid, region))

    def recoloured(self, content: Tensor, grid: Tensor, where: Tensor | None) -> Tensor:
        """Return a content with the maps of a grid applied where `where` is 1, and unchanged where it is 0."""
        result = bilateral_grid.sliced(content, grid).clamp(0, 1)
        return self.coloured(result if where is None else torch.lerp(content, result, where), content)

    @property
    def without_neighbours(self) -> "StyleTransfer":
        """The recipe without nearest neighbours. They copy strokes, which colours alone would imitate by spots."""
        return self.replace(statistic="wasserstein") if self.statistic in TURNS else self

    def recolour_size(self, network: Network, size: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) at which colours are fitted: about `RECOLOURED`, and enough for the network."""
        longest = max(RECOLOURED, math.ceil(network.spec.smallest * max(size) / min(size)))
        return fitted_size(size, min(longest, max(size)))

    def follower(
        self,
        network: Network,
        *,
        content: Tensor,
        style: Tensor,
        style2: Tensor | None = None,
        mask: Tensor | None = None,
        opacity: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> Follower:
        """Return a function that paints the frames of a video, after Ruder et al. (2016).

        A frame starts from the result before, moved, where it was visible there, and is held to it; elsewhere from its content, in
        the colours of the result before. Styles are computed once in a shot, and so are colours if only these change.
        """
        styles, following = _checked(style, style2, opacity), self.following
        prepared: Prepared = {}
        colour: Callable[[Tensor], Frame] | None = None

        def recoloured_frames(picture: Tensor, where: Tensor | None, *, anew: bool) -> Frames:
            nonlocal colour
            if anew or colour is None:
                colour = yield from self.without_neighbours.recolour(network, picture, styles, where, None)
            else:
                yield colour(picture)

        def frames(picture: Tensor, before: Before | None) -> Frames:
            picture = fit(picture, self.size, network.spec.smallest)
            where = self._inside(mask, size_of(picture), len(styles))
            if self.repaint == "colours":
                return recoloured_frames(picture, where, anew=before is None)
            if before is None:
                prepared.clear()  # By some ways of colouring, they depend on the picture.
                return self.paint(network, picture, styles, where, None, None, prepared)
            moved, visible = before.motion(before.result).clamp(0, 1), before.motion.visible
            held = Held(moved, HELD * self.steadiness * visible)
            start = torch.lerp(toned(picture, moved, visible), moved, visible)
            return following.paint(network, picture, styles, where, start, None, prepared, held)

        return frames

    @property
    def following(self) -> "StyleTransfer":
        if not self.steadiness:
            return self
        if self.repaint == "colours":
            return self.replace(steps=1)
        ratio, share, scales = self._pyramid(self.size)
        work = sum(self.steps * share**i * ratio ** (2 * (i + 1 - scales)) for i in range(scales))  # In steps of the full size.
        steps = max(1, round(FOLLOWING * work))
        return self.replace(scales=1, steps=steps, style_blend=self.blend_share(scales, scales), blend_change=0.0)

    def blend_share(self, scale: int, scales: int) -> float:
        """Return the share of the second style in the mixture at a scale, counted from 1, the smallest."""
        progress = (scale - 1) / (scales - 1) if scales > 1 else 0.5
        return min(1.0, max(0.0, self.style_blend + self.blend_change * (progress - 0.5)))

    def scaled_side(self, role: str) -> int | None:
        return None if role == "start" else math.ceil(self.size * (self.style_scale if role in ("style", "style2") else 1))

    def schedule(self, network: Network, size: tuple[int, int], start: Tensor | None = None) -> list[tuple[tuple[int, int], int]]:
        """Return the (height, width) and the steps of each scale, for a result of (height, width).

        Scales up to the size of the start picture are left out, except the last.
        """
        if self.repaint == "colours":
            return [(self.recolour_size(network, size), self.steps)]
        ratio, share, scales = self._pyramid(max(size))
        sizes = pyramid(size, scales, ratio, 2 * network.spec.smallest)
        least = min(self.steps, LEAST_STEPS)
        schedule = [(level, max(least, round(self.steps * share**i))) for i, level in enumerate(sizes)]
        reached = 0 if start is None else max(size_of(start))
        return [(level, steps) for level, steps in schedule[:-1] if max(level) > reached] + schedule[-1:]

    def _pyramid(self, longest: int) -> tuple[float, float, int]:
        """Return the ratio of sizes, the ratio of steps, and the number of scales, for a longest side."""
        ratio, scales = (2**0.5, self.scales) if self.scales else (2.0, 1 + max(0, int(math.log2(longest / COARSEST))))
        return ratio, STEPS_RATIO ** (2 * math.log2(ratio)), scales

    def with_detail(self, image: Tensor, content: Tensor, base: Tensor) -> Tensor:
        """Return an image at the size of `base`, the content at that size, with the detail of the content that it cannot hold.

        Enlarging gives no detail, and the few steps of a large scale do not bring back a face. After the Laplacian pyramid of
        Kolkin et al. (2022).
        """
        if max(size_of(image)) >= max(size_of(base)):
            return resize(image, size_of(base))
        held = resize(resize(content, size_of(image)), size_of(base))
        return resize(image, size_of(base)) + base - held

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        if self.repaint == "colours" and self != self.without_neighbours:
            return self.without_neighbours.demand(network, size, **others)
        target = fitted_size(size, self.size)
        schedule = self.schedule(network, target)
        (height, width), _ = schedule[-1]
        pixels, image = height * width, IMAGE_BYTES * height * width
        others = {"style": size, **others}
        layers = self.layers(network)
        side = tiles.largest(self.bytes(network), tiled=network.tiled(layers))
        margin = tiles.reach(network, layers)
        step = tiles.peak((height, width), self.bytes(network), side, margin)
        # The styles are held at their own size, and scaled for the strokes.
        styles = [others[role] for role in ("style", "style2") if role in others]
        if "style_regions" in others:
            styles = styles * ASSUMED_REGIONS
        sized = [self.style_size(style, max(height, width)) for style in styles]
        style_bytes = self.style_bytes(network)
        step = max(step, *(tiles.peak(scaled, style_bytes, side, margin, share=tiles.HEAP_SHARE_FORWARD) for scaled in sized))
        held = held_bytes(*others.values()) + IMAGE_BYTES * sum(map(math.prod, sized)) + self.content_bytes(network) * pixels
        if self.repaint == "colours":
            held += IMAGES_RECOLOURED * IMAGE_BYTES * math.prod(target)
        held += (IMAGES_HELD + 2 * history_length(image)) * image + network.cost(layers).fixed_bytes
        operations, columns = self._matching(network, schedule, styles)
        held += (
            columns + (self.content_comparison == "self-similarity") * len(self.weights(network, "content_layers")) * PAIR_BYTES
        )
        passes = sum(count * tiles.count(level, side, margin) * self.passes(level, side, margin) for level, count in schedule)
        return Demand(
            flops=operations + sum(self._flops(network, size, count, styles, side, margin) for size, count in schedule),
            bytes=max(held + step, opening_bytes(size, *others.values())),
            fixed_work=passes * network.cost(layers).fixed_work,
            eigen=sum(count for _, count in schedule) * self.eigen(network),
        )

    def _flops(
        self, network: Network, size: tuple[int, int], steps: int, styles: list[tuple[int, int]], side: int, margin: float
    ) -> float:
        """Return the operations at one scale, for styles of (height, width): their statistics, then the steps."""
        sized = [self.style_size(style, max(size)) for style in styles]
        forward = network.cost(self.weights(network, "style_layers")).flops / 2
        seen = tiles.seen_pixels(size, side, margin)
        passes = self.passes(size, side, margin)
        statistics = forward * sum(tiles.seen_pixels(style, side, margin) for style in sized)
        content = network.cost(self.weights(network, "content_layers")).flops / 2 * seen
        if turns := TURNS.get(self.statistic):
            statistics += turns * statistics + forward * seen  # Of the cells that are matched.
        return statistics + content + steps * passes * network.cost(self.layers(network)).flops * seen

    def _matching(
        self, network: Network, schedule: Sequence[tuple[tuple[int, int], int]], styles: Sequence[tuple[int, int]]
    ) -> tuple[float, float]:
        """Return the operations of seeking nearest neighbours at all scales, and the bytes at the scale that takes most."""
        if not (turns := TURNS.get(self.statistic)):
            return 0.0, 0.0
        channels = sum(network.channels(layer) for layer in self.weights(network, "style_layers"))
        sizes = [size for size, _ in schedule]
        costs = [matching_cost([self.style_size(style, max(size)) for style in styles], size, channels, turns) for size in sizes]
        flops, held = zip(*costs, strict=True)
        return sum(flops), max(held)

    def passes(self, size: tuple[int, int], side: int, margin: float) -> float:
        """Return the passes of a step over each tile, of which forward and backward are each a half.

        The statistics of all tiles come before the gradient of any, so all tiles but the last have another forward pass.
        """
        return 1.5 - 0.5 / tiles.count(size, side, margin)

    def eigen(self, network: Network) -> float:
        """Return the cost of the eigenvalues of one step, in the unit of `Demand.eigen`."""
        if STATISTICS[self.statistic] is not wasserstein_distance or not self.style_strength:
            return 0.0
        return float(sum(network.channels(layer) ** 3 for layer in self.weights(network, "style_layers")))

    def layers(self, network: Network) -> list[str]:
        """Return the layers that a step needs."""
        return [*self.weights(network, "style_layers"), *self.weights(network, "content_layers"), INPUT]

    def bytes(self, network: Network) -> float:
        """Return the bytes of a step for each pixel."""
        return network.cost(self.layers(network), native=True).bytes

    def style_bytes(self, network: Network) -> float:
        """Return the bytes for the statistics of a style, for each of its pixels."""
        return network.cost(self.weights(network, "style_layers"), native=True).forward_bytes

    def content_bytes(self, network: Network) -> float:
        """Return the bytes of the content's activations, for each pixel."""
        return network.dtype.itemsize * self.maps(network, "content_layers")

    def maps(self, network: Network, name: str) -> float:
        """Return the activations for each pixel in the layers of a field."""
        return sum(tiles.values_per_pixel(network, layer) for layer in self.weights(network, name))

    def weights(self, network: Network, name: str) -> dict[str, float]:
        """Return the layers of a field and their weights, which add up to 1.

        If the field is empty, the layers are the network's own.
        """
        chosen = {layer: weight for layer, weight in parse_weights(getattr(self, name)).items() if weight}
        chosen = chosen or (own_style_layers(network) if name == "style_layers" else own_content_layers(network))
        if self.repaint == "colours" and name == "style_layers" and not self.style_layers:
            chosen = {layer: weight for layer, weight in chosen.items() if weight >= COARSEST_COLOURS**-STRIDE_EXPONENT}
        return {layer: weight / sum(chosen.values()) for layer, weight in chosen.items()}

    def sized(self, style: Tensor, longest: int, smallest: int = 1) -> Tensor:
        """Return a style picture at the size for its strokes, for a content whose longest side is `longest`; never enlarged.

        If a side is under `smallest`, the picture is continued by its mirror image, which keeps its statistics.
        """
        return mirrored(resize(style, self.style_size(size_of(style), longest)).clamp(0, 1), smallest)

    def style_size(self, size: tuple[int, int], longest: int) -> tuple[int, int]:
        """Return the (height, width) to which `sized` scales a style of (height, width)."""
        return fitted_size(size, min(round(longest * self.style_scale), max(size)))

    def coloured(self, image: Tensor, content: Tensor) -> Tensor:
        """Return the result in the colours of the field `colours`."""
        if self.colours != "content":
            return image
        return (content + luminance(image) - luminance(content)).clamp(0, 1)

    @torch.no_grad()
    def target(
        self,
        network: Network,
        content: Tensor,
        styles: Sequence[Style],
        where: Tensor | None,
        opacity: Tensor | None,
        side: int,
        *,
        guide: Tensor | None = None,
        prepared: "Prepared | None" = None,
        blend_share: float = 0.5,
    ) -> "Target":
        """Return the activations of the content and the statistics of the styles, everywhere or by region.

        `guide` is the picture of the size of `content` whose nearest neighbours in the style are sought; None for the content.
        `where`, (1, styles, H, W) as in `paint`, and `opacity` of the content, (1, 1, H, W), are of the size of `content`. `prepared`
        has the styles for the latest size of the content, and gets those for this one. `blend_share` is that of the
        second style in a mixture. By tiles of at most `side` pixels.
        """
        content_layers, style_layers = (self.weights(network, name) for name in ("content_layers", "style_layers"))
        prepared = {} if prepared is None else prepared
        if self.colours == "content":
            content, guide = luminance(content), guide if guide is None else luminance(guide)
        if size_of(content) not in prepared:
            prepared.clear()  # A smaller size does not come again.
            mixture = blend_share if where is None else None
            prepared[size_of(content)] = self.prepare(network, content, styles, opacity, side, blend_share=mixture)
        all_cells, all_distances = prepared[size_of(content)]
        image = content if guide is None else guide
        neighbours = [neighbours_of(network, image, cells, side, visible=opacity) for cells in all_cells]
        if where is None and len(neighbours) == 2:
            neighbours = [neighbours[0].mixed(neighbours[1], blend_share)]
        regions: list[Region] = []
        parts: Sequence[Tensor | None] = [opacity]
        if where is not None:
            parts = [part if opacity is None else part * opacity for part in where.split(1, 1)]
        area = 1.0 if opacity is None else opacity.mean()
        for part, distances in zip(parts, all_distances, strict=True):
            counts = {} if part is None else counts_of(network, part, style_layers)
            share = 1.0 if part is None else part.mean() / area
            regions.append(Region(share, counts, distances, neighbours[len(regions)] if neighbours else None))
        activations = tiles.activations_of(network, content, content_layers, side, continued=True, native=True)
        counts = {} if opacity is None else counts_of(network, opacity, content_layers)
        weights_of = {layer: at(counts, layer, EVERYWHERE, maps) for layer, maps in activations.items()}
        similarities = {}
        if self.content_comparison == "self-similarity":
            similarities = {
                layer: SelfSimilarity.of(maps.to(wide(maps)), weights_of[layer]) for layer, maps in activations.items()
            }
        energies = {layer: energy(maps, weights_of[layer]) for layer, maps in activations.items()}
        return Target(network, activations, content_layers, counts, energies, regions, style_layers, similarities)

    def prepare(
        self,
        network: Network,
        content: Tensor,
        styles: Sequence[Style],
        opacity: Tensor | None,
        side: int,
        *,
        blend_share: float | None,
    ) -> "PreparedStyles":
        """Return the styles for a content. With a `blend_share`, two styles become one distance. Arguments are those of `target`."""
        longest, smallest = max(size_of(content)), network.spec.smallest
        style_layers = self.weights(network, "style_layers")
        pairs = [
            (self.sized(style, longest, smallest), weights if weights is None else self.sized(weights, longest, smallest))
            for style, weights in styles
        ]
        if self.colours == "content":
            pairs = [(luminance(style), weights) for style, weights in pairs]
        if self.colours != "style":
            pairs = [(match_colours(style, content, weights, opacity), weights) for style, weights in pairs]
        statistics = [moments_of(network, style, style_layers, side, weights) for style, weights in pairs]
        if blend_share is not None and len(statistics) == 2:
            first, second = statistics
            statistics = [{layer: blend(first[layer], second[layer], blend_share) for layer in style_layers}]
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
        with torch.no_grad():
            sums_of_tiles = [self._sums(*piece, *layers) for piece in pieces[:-1]]
        with torch.enable_grad():
            sums_of_tiles.append(self._sums(*pieces[-1], *layers))  # The graph of one tile fits into memory.
            totals = [sum(values).detach().requires_grad_() for values in zip(*sums_of_tiles, strict=True)]
            measures = self._distances(totals, *layers)
            for layer in style_layers:
                loss = loss + settings.style_strength * STYLE * self.style_layers[layer] * measures[layer]
            if content_layers:
                loss = loss + settings.content_strength * CONTENT * measures["content"]
            sum_gradients = torch.autograd.grad(loss, totals)
            for tile, part in reversed(pieces):
                sums = sums_of_tiles[-1] if part is pieces[-1][1] else self._sums(tile, part, *layers)
                gradient[(..., *tile.seen)] += torch.autograd.grad(sums, part, sum_gradients)[0]
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


def toned(picture: Tensor, result: Tensor, visible: Tensor) -> Tensor:
    """Return a picture (1, 3, H, W) in the colours of a result, so that no place stands out.

    The result (1, 3, H, W) is known where `visible` (1, 1, H, W) is 1. An affine map from the picture's colours to the result's is
    fitted by least squares where the result is known, and applied everywhere. Then the mean error around each place is corrected.
    """
    ones = torch.ones_like(picture[:, :1])
    known, colours = (exact(torch.cat(images, 1)[0].flatten(1)) for images in ([picture, ones], [result]))
    weighed = known * visible.flatten().to(known)
    ridge = RIDGE * known.shape[1] * torch.eye(4).to(known)
    affine = torch.linalg.solve(weighed @ known.T + ridge, weighed @ colours.T)
    predicted = (affine.T @ known).to(picture).view_as(picture)
    sigma = max(size_of(picture)) / REACH
    change = blur(visible * (result - predicted), sigma) / blur(visible, sigma).clamp_min(1e-3)
    return (predicted + change).clamp(0, 1)


def _checked(style: Tensor, style2: Tensor | None, opacity: Mapping[str, Tensor]) -> list[Style]:
    """Return the styles of a run. Raises InputError if one is black everywhere."""
    styles = [(image, opacity.get(role)) for role, image in (("style", style), ("style2", style2)) if image is not None]
    if any(image.max() < BLACK for image, _ in styles):
        raise InputError("The style is black everywhere; choose a brighter picture.")
    return styles


def leaf(image: Tensor, tile: tiles.Tile) -> Tensor:
    """Return a tile of an image (1, 3, H, W) with its margin, as a tensor whose gradient can be taken."""
    return image[(..., *tile.seen)].detach().requires_grad_()


def moments_of(
    network: Network, image: Tensor, layers: Collection[str], side: int, opacity: Tensor | None = None
) -> dict[str, Tensor]:
    """Return {layer: moments of its activations over the whole image}, by tiles; opacity weighs the positions."""
    sums = dict.fromkeys(layers, image.new_zeros(()))
    counts = {} if opacity is None else counts_of(network, opacity, layers)
    for tile in tiles.tiling(network, image, layers, side):
        activations_of_layer = tiles.tile_activations(
            network, tile, image[(..., *tile.seen)], layers, continued=True, native=True
        )
        for layer, (place, activations) in activations_of_layer.items():
            sums[layer] = sums[layer] + moments(activations, at(counts, layer, place, activations))
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


def grey_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return an image of the same size: grey with faint noise."""
    return (0.5 + 0.1 * torch.randn(like.shape, generator=generator).to(like)).clamp(0, 1)
