"""Style transfer: the content of one picture in the style of another (Gatys et al., 2016)."""

import math
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from featviz.errors import FieldError, InputError, nearest, short
from featviz.networks.network import Network
from featviz.networks.table import INPUT, NETWORKS, NetworkName
from featviz.optimise import tiles
from featviz.optimise.colours import match_colours, toned
from featviz.optimise.gradients import blur, luminance, soften
from featviz.optimise.neighbours import TURNS, matching_cost
from featviz.optimise.optimisers import OPTIMISERS, Optimiser, history_length
from featviz.optimise.parameterization import Average, pyramid
from featviz.optimise.regions import Style, matched
from featviz.optimise.scaling import fit, fitted_size, resize, size_of
from featviz.optimise.self_similarity import PAIR_BYTES
from featviz.optimise.style_statistics import BLACK, Statistic
from featviz.optimise.tile_reports import View, viewed
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
from featviz.recipes.recolouring import COARSEST_COLOURS, fitting_size, recolour
from featviz.recipes.style_target import STRIDE_EXPONENT, Comparison, Held, Prepared, own_content_layers, own_style_layers

STYLES = ("style", "style2", "style3", "style4")
"""The roles of styles, in order."""

SHARES = ("style_blend", "style_weights", "blend_change")
"""The fields that say how much of each style is in the mixture."""

START = 0.8
"""Share of the style's colours in the picture that a run starts from. An even style alone would leave nothing of the content, and
L-BFGS would not converge."""

IMAGES_HELD = 22
"""Copies of the image that a run holds at once, without the history of L-BFGS."""

IMAGES_RECOLOURED = 6
"""Copies of the image at its own size that a run holds where only colours change."""

STEPS_RATIO = 0.7
"""Steps of a scale, relative to those of the next smaller one: large structures are finished by then."""

GUIDED = 0.75
"""Share of the picture so far in the picture whose neighbours are sought, beside the content (Kolkin et al., 2022). At the first
scale it is the content alone."""

COARSEST = 160
"""Least longest side, in pixels, of sizes that double. Smaller ones cost little, but lose the content."""

LEAST_STEPS = 4
"""Least steps of a scale, if the field `steps` is not less: with fewer, fine detail is still that of the content."""

FOLLOWING = 0.2
"""Work of a video frame that starts from the result before, relative to that of a still."""

HELD = 150.0
"""Weight at steadiness 1 of the mean square error from the result before, moved, in units of 1. See `STYLE`."""

ASSUMED_REGIONS = 4
"""Regions of the style that an estimate assumes, where there are any: their number is known once the picture is opened."""


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
        "style2": "A second style, mixed with the first, or for what is outside the mask, or for a region of its own.",
        **dict.fromkeys(STYLES[2:], "A further style, mixed with those before, or for a region of its own."),
        "mask": "Where to paint: white for here, black or transparent for not here, grey for in between.",
        "start": "A result to go on from; the scales that it has passed already are left out.",
        "regions": "The content's regions, as areas of plain colours: the brightest gets the first style, the next one the second.",
        "style_regions": "The first style's regions: each is used for the content's region of the same colour.",
    }
    lists: ClassVar[dict[str, tuple[str, ...]]] = {"style": STYLES}

    sweep_fields: ClassVar[tuple[str, ...]] = ("style_strength", "style_scale")
    rules: ClassVar[tuple[Rule, ...]] = (
        *(Rule((role,), "styles are given in order", without=before) for before, role in pairwise(STYLES[1:])),
        Rule(SHARES, "there is one style", without="style2", refused=False),
        Rule(SHARES, "each style has its own region", beside="mask", refused=False),
        Rule(SHARES, "each style has its own region", beside="regions", refused=False),
        Rule(("style_blend",), "the weights say the share of each style", beside="style_weights", refused=False),
        Rule(("style_blend",), "it is the share of the second of two styles", beside="style3", refused=False),
        Rule(("mask",), "regions say where each style is used", beside="regions"),
        Rule(("mask",), "it divides two styles; regions divide more", beside="style3"),
        Rule(("style_regions",), "there are no regions to match", without="regions"),
        Rule(("start", "init", "scales", "smoothness"), "the picture keeps its edges", beside="repaint", refused=False),
    )
    opacity_roles: ClassVar[tuple[str, ...]] = ("content", *STYLES, "regions", "style_regions")
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
        0.5, "Share of the second style in the mixture, where there are two and no mask.", ge=0, le=1, step=0.05, group="Style"
    )
    style_weights: str = param(
        "",
        "Weights of the styles in the mixture, in order, e.g. '2, 1, 1'; empty for the share of the second, or for equal ones of more.",
        longest=100,
        group="Style",
    )
    blend_change: float = param(
        0.0,
        "Growth of the last style's share from the smallest scale to the largest: with 1, the first style gives coarse structure, "
        "and the last fine structure.",
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
    init: Literal["recoloured", "content", "noise"] = param(
        "recoloured",
        "What the picture starts from, unless a start picture is given: the content in the style's colours, the content, or noise.",
        group="Content",
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
        self._weights_of_styles()
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
        mask: Tensor | None = None,
        start: Tensor | None = None,
        regions: Tensor | None = None,
        style_regions: Tensor | None = None,
        opacity: Mapping[str, Tensor] = MappingProxyType({}),
        **further_styles: Tensor,
    ) -> Frames:
        """Yield a frame after each step of each scale. All images are (1, 3, H, W) in [0, 1].

        `opacity` has (1, 1, H, W) in [0, 1] for the content and for styles that are transparent somewhere. It weighs the positions
        in all statistics.

        `further_styles` have the roles of `STYLES`; all styles are mixed. With a mask the second one applies outside the mask; without
        a second style, the content outside the mask stays unchanged. `regions` and `style_regions` are as in
        `featviz.optimise.regions.matched`. Differs from Gatys et al. (2016): coarse to fine, and distances are relative to their
        target.

        Raises:
            InputError: a picture is too narrow for the network, a style is black everywhere, the mask selects nothing, or regions
                do not match.
        """
        content = fit(content, self.size, network.spec.smallest)
        styles = _checked({"style": style, **further_styles}, opacity)
        if regions is None:
            where = self._inside(mask, size_of(content), len(styles))
        else:
            # Transparent is black.
            regions = regions * opacity.get("regions", 1)
            style_regions = style_regions if style_regions is None else style_regions * opacity.get("style_regions", 1)
            where, styles = matched(regions, style_regions, styles, size_of(content))
            where = blur(where, self.feather / 3) if self.feather else where
        if self.repaint == "colours":
            yield from recolour(self.without_neighbours, network, content, styles, where, opacity.get("content"))
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
        prepared: Prepared | None,
        held: Held | None = None,
    ) -> Frames:
        """`run`, for a content of the size of the result.

        `where`: the weight of each style, (1, styles, H, W) in [0, 1]; None for all everywhere. Where a single style has no weight,
        the content stays unchanged. `prepared` is that of `target`. `held`: what the result is held to, beside content and style.
        """
        settings, comparison = self, self.comparison(network)
        generator = torch.Generator().manual_seed(self.seed)
        schedule, scales = self.schedule(network, size_of(content), start), len(self.schedule(network, size_of(content)))
        steps, work = (sum(counts) for counts in zip(*((count, count * h * w) for (h, w), count in schedule), strict=True))
        result = content if start is None else start
        if start is None and self.init == "noise":
            result = grey_noise(content, generator)
        elif start is None and self.init == "recoloured" and self.colours == "style":
            small = resize(content, schedule[0][0]).clamp(0, 1)
            shares = self.shares(len(styles), 0.0 if scales > 1 else 0.5)
            result = torch.lerp(small, recoloured(small, styles, where, opacity, shares), START)
        cost, allowance = comparison.step_bytes, tiles.Allowance(tiled=network.tiled(comparison.layers))
        optimiser: Optimiser | None = None
        step = pixels_done = 0

        for scale, (size, count) in enumerate(schedule, start=1):
            base = resize(content, size).clamp(0, 1)
            scaled_where, scaled_opacity = (
                None if weights is None else resize(weights, size).clamp(0, 1) for weights in (where, opacity)
            )
            region = scaled_where if len(styles) == 1 else None  # The only part of the image that changes.
            latest = resize(result, size) if self.init == "noise" else self.with_detail(result, content, base)
            latest = latest.clamp(0, 1)
            # A frame of a video that follows another one has the mixture of the largest scale.
            progress = (scales - len(schedule) + scale - 1) / (scales - 1) if scales > 1 else 0.5 if held is None else 1.0
            guide = None if scale == 1 and held is None else torch.lerp(base, latest, GUIDED)
            target_of = partial(
                comparison.target, base, styles, scaled_where, scaled_opacity,
                guide=guide, prepared=prepared, shares=self.shares(len(styles), progress),
            )  # fmt: skip
            optimiser = OPTIMISERS[self.optimiser](latest, optimiser)
            result = optimiser.image if region is None else torch.lerp(base, optimiser.image, region)
            with viewed(self.view(optimiser, result, base, region)):
                target = allowance.fit(target_of, cost)
            tiles.release_free_memory()  # Small blocks of the passes over styles and content: 0.4 GB at 2048 pixels.
            del latest, guide, target_of  # The steps do not need these images.
            average = Average(optimiser.averaged)
            for step_of_scale in range(1, count + 1):
                roll = Roll.random(optimiser.jitter, generator)
                painted = optimiser.image if region is None else torch.lerp(base, optimiser.image, region)
                with viewed(self.view(optimiser, result, base, region)):
                    measures, loss, gradient = allowance.fit(partial(target.compare, roll(painted), settings), cost)
                gradient = roll.undo(gradient)
                if held is not None:
                    loss, gradient = loss + held.loss(painted), gradient + held.gradient(painted)
                optimiser.step(gradient if region is None else gradient * region, loss, step_of_scale / count)
                painted = optimiser.image if region is None else torch.lerp(base, optimiser.image, region)
                result = average.update(painted).clamp(0, 1)
                step, pixels_done = step + 1, pixels_done + size[0] * size[1]
                settings = yield from settings.steered(
                    Frame(
                        step=step,
                        steps=steps,
                        stage=f"scale {scale} of {len(schedule)}{allowance.remark}",
                        work=pixels_done / work,
                        loss=loss,
                        image=partial(self.coloured, result, base),
                        measures=measures,
                    ),
                    optimiser,
                )

    def view(self, optimiser: Optimiser, result: Tensor, base: Tensor, region: Tensor | None) -> View:
        """Return what the result of the step before looks like in the middle of a step. Arguments are those of `paint`."""

        def after(area: tiles.Area, gradient: Tensor) -> Tensor | None:
            moved = optimiser.moved(area, gradient)
            if moved is None:
                return None
            content, moved = base[(..., *area)], moved.clamp(0, 1)
            return self.coloured(moved if region is None else torch.lerp(content, moved, region[(..., *area)]), content)

        return View(size_of(base), lambda area: self.coloured(result[(..., *area)], base[(..., *area)]), after)

    def steered(self, frame: Frame, optimiser: Optimiser) -> Generator[Frame, Recipe | None, "StyleTransfer"]:
        """Yield a frame, and return the settings from the next step on: those that the caller has sent, or else these."""
        changed = yield frame
        if not isinstance(changed, StyleTransfer) or changed == self:
            return self
        optimiser.forget_loss()
        return changed

    @property
    def without_neighbours(self) -> "StyleTransfer":
        """The recipe without nearest neighbours. They copy strokes, which colours alone would imitate by spots."""
        return self.replace(statistic="wasserstein") if self.statistic in TURNS else self

    def follower(
        self,
        network: Network,
        *,
        content: Tensor,
        style: Tensor,
        mask: Tensor | None = None,
        opacity: Mapping[str, Tensor] = MappingProxyType({}),
        **further_styles: Tensor,
    ) -> Follower:
        """Return a function that paints the frames of a video, after Ruder et al. (2016).

        A frame starts from the result before, moved, where it was visible there, and is held to it; elsewhere from its content, in
        the colours of the result before. Styles are computed once in a shot, and so are colours if only these change.
        """
        styles, following = _checked({"style": style, **further_styles}, opacity), self.following
        prepared: Prepared = {}
        colour: Callable[[Tensor], Frame] | None = None

        def recoloured_frames(picture: Tensor, where: Tensor | None, *, anew: bool) -> Frames:
            nonlocal colour
            if anew or colour is None:
                colour = yield from recolour(self.without_neighbours, network, picture, styles, where, None)
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
        return self.replace(scales=1, steps=steps, blend_change=self.blend_change if scales > 1 else 0.0)

    def shares(self, styles: int, progress: float) -> list[float]:
        """Return the share of each style in the mixture of so many, in [0, 1]; they add up to 1.

        `progress`: 0 at the smallest scale, 1 at the largest.
        """
        if styles == 1:
            return [1.0]
        unweighted = [1 - self.style_blend, self.style_blend] if styles == 2 else [1.0] * styles
        weights = self._weights_of_styles() or unweighted
        change = self.blend_change * (progress - 0.5)
        tilted = [
            max(0.0, weight / sum(weights) + change * (2 * place / (styles - 1) - 1)) for place, weight in enumerate(weights)
        ]
        return [share / sum(tilted) for share in tilted]

    def _weights_of_styles(self) -> list[float]:
        """Return the numbers of `style_weights`; empty if it is empty. Raises FieldError if they are no weights."""
        try:
            weights = [float(number) for number in self.style_weights.split(",")] if self.style_weights.strip() else []
        except ValueError:
            weights = [math.nan]
        if weights and not (all(0 <= weight < math.inf for weight in weights) and any(weights)):
            raise FieldError(
                f"style_weights is '{short(self.style_weights)}'; expected numbers of at least 0, not all 0, as in '2, 1, 1'."
            )
        return weights

    def check_unused(self, pictures: Collection[str] | None) -> None:
        super().check_unused(pictures)
        styles, weights = len({*STYLES} & {*(pictures or ())}), len(self._weights_of_styles())
        if weights and styles > 1 and weights != styles:
            raise FieldError(f"style_weights has {weights} weights, and there are {styles} styles; expected one for each.")

    def scaled_side(self, role: str) -> int | None:
        return None if role == "start" else math.ceil(self.size * (self.style_scale if role in STYLES else 1))

    def schedule(self, network: Network, size: tuple[int, int], start: Tensor | None = None) -> list[tuple[tuple[int, int], int]]:
        """Return the (height, width) and the steps of each scale, for a result of (height, width).

        Scales up to the size of the start picture are left out, except the last.
        """
        if self.repaint == "colours":
            return [(fitting_size(network, size), self.steps)]
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
        comparison, target = self.comparison(network), fitted_size(size, self.size)
        schedule = self.schedule(network, target)
        (height, width), _ = schedule[-1]
        pixels, image = height * width, IMAGE_BYTES * height * width
        others = {"style": size, **others}
        side = tiles.largest(comparison.step_bytes, tiled=network.tiled(comparison.layers))
        margin = tiles.reach(network, comparison.layers)
        step = tiles.peak((height, width), comparison.step_bytes, side, margin)
        # The styles are held at their own size, and scaled for the strokes.
        styles = [others[role] for role in STYLES if role in others]
        if "style_regions" in others:
            styles = [others["style"]] * ASSUMED_REGIONS + styles[1:]
        sized = [comparison.style_size(style, max(height, width)) for style in styles]
        style_bytes = comparison.style_bytes
        step = max(step, *(tiles.peak(scaled, style_bytes, side, margin, share=tiles.HEAP_SHARE_FORWARD) for scaled in sized))
        held = held_bytes(*others.values()) + IMAGE_BYTES * sum(map(math.prod, sized)) + comparison.content_bytes * pixels
        if self.repaint == "colours":
            held += IMAGES_RECOLOURED * IMAGE_BYTES * math.prod(target)
        held += (IMAGES_HELD + 2 * history_length(image)) * image + network.cost(comparison.layers).fixed_bytes
        operations, columns = _matching(comparison, schedule, styles)
        held += columns + (self.content_comparison == "self-similarity") * len(comparison.content_layers) * PAIR_BYTES
        passes = sum(count * tiles.count(level, side, margin) * _passes(level, side, margin) for level, count in schedule)
        return Demand(
            flops=operations + sum(_flops(comparison, size, count, styles, side, margin) for size, count in schedule),
            bytes=max(held + step, opening_bytes(size, *others.values())),
            fixed_work=passes * network.cost(comparison.layers).fixed_work,
            eigen=sum(count for _, count in schedule) * comparison.eigen if self.style_strength else 0.0,
        )

    def comparison(self, network: Network) -> Comparison:
        """Return what is compared by a network."""
        return Comparison(
            network,
            self.weights(network, "style_layers"),
            self.weights(network, "content_layers"),
            self.statistic,
            self.content_comparison,
            self.colours,
            self.style_scale,
        )

    def weights(self, network: Network, name: str) -> dict[str, float]:
        """Return the layers of a field and their weights, which add up to 1.

        If the field is empty, the layers are the network's own.
        """
        chosen = {layer: weight for layer, weight in parse_weights(getattr(self, name)).items() if weight}
        chosen = chosen or (own_style_layers(network) if name == "style_layers" else own_content_layers(network))
        if self.repaint == "colours" and name == "style_layers" and not self.style_layers:
            chosen = {layer: weight for layer, weight in chosen.items() if weight >= COARSEST_COLOURS**-STRIDE_EXPONENT}
        return {layer: weight / sum(chosen.values()) for layer, weight in chosen.items()}

    def coloured(self, image: Tensor, content: Tensor) -> Tensor:
        """Return the result in the colours of the field `colours`."""
        if self.colours != "content":
            return image
        return (content + luminance(image) - luminance(content)).clamp(0, 1)


def _checked(styles_by_role: Mapping[str, Tensor], opacity: Mapping[str, Tensor]) -> list[Style]:
    """Return the styles of a run in order, with their opacity. Raises InputError if one is black everywhere."""
    styles = [(styles_by_role[role], opacity.get(role)) for role in STYLES if role in styles_by_role]
    for role, image in styles_by_role.items():
        if image.max() < BLACK:
            raise InputError(f"The {role} is black everywhere; choose a brighter picture.")
    return styles


def recoloured(
    content: Tensor, styles: Sequence[Style], where: Tensor | None, opacity: Tensor | None, shares: Sequence[float]
) -> Tensor:
    """Return a content (1, 3, H, W) with the mean and the covariance of the styles' colours, by region.

    `where` and `opacity` are as in `paint`, `shares` those of the styles in a mixture. The first steps from a picture in its own
    colours would do little else than this.
    """
    where, opacity = (it if it is None else resize(it, size_of(content)).clamp(0, 1) for it in (where, opacity))
    regions: Sequence[Tensor | float] = shares if where is None else where.split(1, 1)
    changes = []
    for region, (style, opacity_of_style) in zip(regions, styles, strict=True):
        seen = opacity if isinstance(region, float) else region if opacity is None else region * opacity
        if seen is None or seen.sum() >= 1:  # A smaller region has no colours to match.
            changes.append(region * (match_colours(content, style, seen, opacity_of_style) - content))
    return sum(changes, content)


def grey_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return an image of the same size: grey with faint noise."""
    return (0.5 + 0.1 * torch.randn(like.shape, generator=generator).to(like)).clamp(0, 1)


def _flops(
    comparison: Comparison, size: tuple[int, int], steps: int, styles: list[tuple[int, int]], side: int, margin: float
) -> float:
    """Return the operations at one scale, for styles of (height, width): their statistics, then the steps."""
    network = comparison.network
    sized = [comparison.style_size(style, max(size)) for style in styles]
    forward = network.cost(comparison.style_layers).flops / 2
    seen = tiles.seen_pixels(size, side, margin)
    statistics = forward * sum(tiles.seen_pixels(style, side, margin) for style in sized)
    content = network.cost(comparison.content_layers).flops / 2 * seen
    if turns := TURNS.get(comparison.statistic):
        statistics += turns * statistics + forward * seen  # Of the cells that are matched.
    return statistics + content + steps * _passes(size, side, margin) * network.cost(comparison.layers).flops * seen


def _matching(
    comparison: Comparison, schedule: Sequence[tuple[tuple[int, int], int]], styles: Sequence[tuple[int, int]]
) -> tuple[float, float]:
    """Return the operations of seeking nearest neighbours at all scales, and the bytes at the scale that takes most."""
    if not (turns := TURNS.get(comparison.statistic)):
        return 0.0, 0.0
    channels = sum(comparison.network.channels(layer) for layer in comparison.style_layers)
    sizes = [size for size, _ in schedule]
    costs = [
        matching_cost([comparison.style_size(style, max(size)) for style in styles], size, channels, turns) for size in sizes
    ]
    flops, held = zip(*costs, strict=True)
    return sum(flops), max(held)


def _passes(size: tuple[int, int], side: int, margin: float) -> float:
    """Return the passes of a step over each tile, of which forward and backward are each a half.

    The statistics of all tiles come before the gradient of any, so all tiles but the last have another forward pass.
    """
    return 1.5 - 0.5 / tiles.count(size, side, margin)
