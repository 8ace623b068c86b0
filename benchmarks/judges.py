"""Judge a style transfer with networks and measures that no program of the leaderboard optimises.

EfficientNet-Lite0 gives three distances, 0 at best: `local`, `global_` and `content`. VGG-19 gives the three factors of
StyleEval (Wang et al., Evaluate and improve the quality of neural style transfer, 2021), 1 at best: `fidelity`, `effects` and
`patterns`. Most programs optimise VGG-19, so those three stand beside the distances and decide nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from benchmarks.cases import exact
from featviz.media.images import to_tensor
from featviz.optimise.precision import TINY
from featviz.optimise.scaling import fit, resize, size_of
from featviz.optimise.style_statistics import covariance, mean, moments, second_moment

STYLE_LAYERS = ("block0", "block2", "block4", "block10")
"""Layers of EfficientNet-Lite0 with strides of 2, 4, 8 and 16 pixels."""

CONTENT_LAYERS = ("block4", "block10")

SIDE, EVALUATED = 384, 256
"""Longest side at which EfficientNet-Lite0 and StyleEval see a picture. The work of StyleEval grows with the fourth power."""

POSITIONS, SAMPLES = 64, 32
"""Most rows and columns of a feature map that are compared with those of another, and of the same map."""

BINS = 128
"""Of the histograms of StyleEval, and below, its layers."""

FIDELITY_LAYERS, PATTERN_LAYERS = ("relu4_1", "relu5_1"), ("relu3_1", "relu4_1")
EFFECT_LAYERS = ("relu2_1", "relu3_1", "relu4_1", "relu5_1")


@dataclass(frozen=True)
class Verdict:
    """The judgement of one picture. Names of fields are the columns of the leaderboard."""

    local: float
    """Cosine distance of features to the nearest of the other picture, from the result to the style or back, the larger mean."""
    global_: float
    """Distance of means and covariances of feature maps from the style's, relative to the size of both."""
    content: float
    """1 − the correlation of the self-similarities of content and result, in [0, 2]; after Kolkin et al. (STROTSS, 2019)."""
    fidelity: float
    """Cosine of feature maps with the content's."""
    effects: float
    """Cosine of Gram matrices and of histograms of colours with the style's."""
    patterns: float
    """Cosine of patches of features with the nearest of the style's, and the share of the style's patches that are nearest to any."""

    @property
    def style(self) -> float:
        """The mean of both distances from the style."""
        return (self.local + self.global_) / 2


@torch.no_grad()
def judge(
    picture: Image.Image, content: Image.Image, style: Image.Image, side: int = SIDE, evaluated: int = EVALUATED
) -> Verdict:
    """Return the judgement of a picture at `side` and `evaluated` pixels on the longest side, whatever the sizes of all three."""
    result, kept, copied = (fit(to_tensor(one), side, 32) for one in (picture, content, style))
    result = resize(result, size_of(kept)).clamp(0, 1)  # Programs round sizes in their own ways.
    layers = [*STYLE_LAYERS, *CONTENT_LAYERS]
    ours, content_maps, style_maps = (exact("efficientnet_lite0").activations(image, layers) for image in (result, kept, copied))
    small, small_content = (fit(image, evaluated, 32) for image in (result, kept))
    small_style = resize(copied, size_of(small)).clamp(0, 1)  # As StyleEval does.
    return Verdict(
        _mean(local_distance(ours[layer], style_maps[layer]) for layer in STYLE_LAYERS),
        _mean(global_distance(ours[layer], style_maps[layer]) for layer in STYLE_LAYERS),
        _mean(content_distance(ours[layer], content_maps[layer]) for layer in CONTENT_LAYERS),
        **style_eval(small, small_content, small_style),
    )


def local_distance(maps: Tensor, style: Tensor) -> float:
    """Return the relaxed earth mover's distance of two feature maps (1, C, h, w), in [0, 2]; 0 for equal maps.

    Each position's cosine distance to the nearest of the other map, mean over positions, in the direction where that is more.
    Features are relative to the style's mean, since features after any ReLU point to nearly the same direction.
    """
    middle = style.mean((2, 3), keepdim=True)
    ours, theirs = (functional.normalize(_sampled(values - middle, POSITIONS), dim=1) for values in (maps, style))
    nearness = ours @ theirs.T
    return 1 - min(nearness.amax(1).mean(), nearness.amax(0).mean()).item()


def global_distance(maps: Tensor, style: Tensor) -> float:
    """Return ‖μ − μ*‖² / ½(‖μ‖² + ‖μ*‖²) + ‖Σ − Σ*‖² / ½(‖Σ‖² + ‖Σ*‖²), halved, of two feature maps (1, C, h, w), in [0, 2]."""
    ours, theirs = moments(maps.double()), moments(style.double())
    return sum(_relative(statistic(ours), statistic(theirs)) for statistic in (mean, covariance)) / 2


def content_distance(maps: Tensor, content: Tensor) -> float:
    """Return 1 − the correlation of the self-similarities of two feature maps (1, C, h, w) of the same size, in [0, 2].

    Self-similarity is the matrix of cosine distances between positions. It keeps the arrangement, and forgets colours and textures
    as long as they are the same everywhere. Differs from STROTSS (Kolkin et al., 2019, eq. 8), where distances are compared by
    their absolute difference: noise, which is alike everywhere, would be nearer to a content than most paintings.
    """
    ours, theirs = (_self_similarity(_sampled(values, SAMPLES)) for values in (maps, content))
    return 1 - _cosine(ours - ours.mean(), theirs - theirs.mean())


def style_eval(picture: Tensor, content: Tensor, style: Tensor) -> Mapping[str, float]:
    """Return the three factors of StyleEval for images (1, 3, H, W) of the same size, each in [0, 1].

    Differs from the program of the authors: the pooling of the network is its own, by the maximum.
    """
    layers = {*FIDELITY_LAYERS, *EFFECT_LAYERS, *PATTERN_LAYERS}
    ours, content_maps, style_maps = (exact("vgg19").activations(image, layers) for image in (picture, content, style))
    grams = _mean(
        _cosine(second_moment(moments(ours[layer])), second_moment(moments(style_maps[layer]))) for layer in EFFECT_LAYERS
    )
    return {
        "fidelity": _mean(_cosine(ours[layer], content_maps[layer]) for layer in FIDELITY_LAYERS),
        "effects": (grams + _mean(map(_cosine, _histograms(picture), _histograms(style)))) / 2,
        "patterns": _mean(pattern_similarity(ours[layer], style_maps[layer]) for layer in PATTERN_LAYERS),
    }


def pattern_similarity(maps: Tensor, style: Tensor) -> float:
    """Return the mean of two numbers in [0, 1], for patches of 3 × 3 positions of two feature maps (1, C, h, w).

    The cosine of each patch with the most similar one of the style, mean over patches; and the number of different patches of
    the style that are chosen, relative to that of all.
    """
    ours, theirs = (functional.normalize(functional.unfold(values, 3)[0].T, dim=1) for values in (maps, style))
    nearness, chosen = torch.cat([part @ theirs.T for part in ours.split(2048)]).max(1)
    available = len(theirs.unique(dim=0))
    return (nearness.mean().item() + len(theirs[chosen.unique()].unique(dim=0)) / available) / 2


def _mean(values) -> float:
    values = [*values]
    return sum(values) / len(values)


def _sampled(maps: Tensor, most: int) -> Tensor:
    """Return feature vectors (N, C) of (1, C, h, w) at every k-th row and column, so that there are at most `most` of both."""
    every = max(1, -(-max(size_of(maps)) // most))
    return maps[0, :, ::every, ::every].flatten(1).T


def _self_similarity(features: Tensor) -> Tensor:
    """Return the cosine distances between different feature vectors (N, C), as a vector."""
    directions = functional.normalize(features - features.mean(0), dim=1)
    pairs = torch.triu_indices(len(features), len(features), 1)
    return (1 - directions @ directions.T)[pairs[0], pairs[1]]


def _relative(value: Tensor, target: Tensor) -> float:
    size = (value.square().sum() + target.square().sum()).clamp_min(TINY) / 2
    return ((value - target).square().sum() / size).item()


def _cosine(one: Tensor, other: Tensor) -> float:
    return functional.cosine_similarity(one.flatten(), other.flatten(), dim=0).item()


def _histograms(image: Tensor) -> Sequence[Tensor]:
    """Return the number of pixels with each of `BINS` values, for red, green and blue."""
    return [channel.cpu().histc(BINS, 0, 1) for channel in image[0]]
