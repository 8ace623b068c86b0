"""What is wanted of an image, as a scalar function of its activations: larger is better.

Objectives compose with `+`, `-` and `*`, as in Lucid (Olah et al., 2017):

    energy("relu4_4") - 0.5 * total_variation("input")

They see a dict {layer: (B, C, h, w)} and never a model. Distances are 0 when nothing is left to do, so they enter with
a minus sign, written where they are used.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Activations = Mapping[str, Tensor]

CHUNK = 2048
"""Positions of an image and vectors of a guide that are compared at a time: 17 MB of dot products."""


class Objective:
    """A function {layer: (B, C, h, w)} → () together with the layers it needs."""

    def __init__(self, layers: frozenset[str], function: Callable[[Activations], Tensor]):
        self.layers = layers
        self._function = function

    def __call__(self, activations: Activations) -> Tensor:
        return self._function(activations)

    def __add__(self, other: "Objective") -> "Objective":
        return Objective(self.layers | other.layers, lambda activations: self(activations) + other(activations))

    def __mul__(self, factor: float) -> "Objective":
        return Objective(self.layers, lambda activations: self(activations) * factor)

    def __neg__(self) -> "Objective":
        return self * -1.0

    def __sub__(self, other: "Objective") -> "Objective":
        return self + -other

    __rmul__ = __mul__


def objective(*layers: str) -> Callable[[Callable[[Activations], Tensor]], Objective]:
    """Decorator: a function of activations, and the layers it reads, as an `Objective`."""
    return lambda function: Objective(frozenset(layers), function)


def energy(layer: str, channels: Sequence[int] = ()) -> Objective:
    """½‖a‖² of a whole layer, or of some of its channels: DeepDream (Mordvintsev et al., 2015).

    Its gradient with respect to the activations is the activations themselves, so that what a layer answers most
    strongly is given most weight.
    """

    @objective(layer)
    def half_squared_norm(activations: Activations) -> Tensor:
        values = activations[layer]
        return (values[:, list(channels)] if channels else values).square().sum() / 2

    return half_squared_norm


def unit(layer: str, index: int) -> Objective:
    """One channel's sum over positions; of a classifier's logits, one class."""

    @objective(layer)
    def answer(activations: Activations) -> Tensor:
        return activations[layer][:, index].sum()

    return answer


def channels(layer: str, indices: Sequence[int]) -> Objective:
    """Each image of a batch answers for a channel of its own: mean over positions, summed over the batch (Olah et al., 2017)."""

    @objective(layer)
    def answer(activations: Activations) -> Tensor:
        return activations[layer][range(len(indices)), list(indices)].mean((1, 2)).sum()

    return answer


def neurons(layer: str, indices: Sequence[int]) -> Objective:
    """Like `channels`, but only the unit at the centre answers: one thing in the middle instead of a pattern all over."""

    @objective(layer)
    def answer(activations: Activations) -> Tensor:
        values = activations[layer][range(len(indices)), list(indices)]
        return values[:, values.shape[1] // 2, values.shape[2] // 2].sum()

    return answer


def diversity(layer: str) -> Objective:
    """How unlike the images of a batch are: minus the mean cosine between their Gram matrices, in [-1, 0] (Olah et al., 2017)."""

    @objective(layer)
    def unlikeness(activations: Activations) -> Tensor:
        grams = gram(activations[layer]).flatten(1)
        likeness = torch.nn.functional.cosine_similarity(grams.unsqueeze(0), grams.unsqueeze(1), dim=2)
        pairs = torch.triu_indices(len(grams), len(grams), 1)
        return -likeness[pairs[0], pairs[1]].mean()

    return unlikeness


def guided_by_match(layer: str, guide: Tensor, *, chunk: int = CHUNK) -> Objective:
    """Every position pulls towards the guide's feature vector that suits it best (Mordvintsev et al., 2015).

    Its gradient is the best matching vector of `guide` (1, C, h, w), by dot product. `chunk` positions are compared with
    `chunk` vectors of the guide at a time, so memory for the products is 4 · chunk² bytes, whatever the size of both pictures.
    """
    vectors = guide.flatten(2)[0].T  # (hw, C)

    @torch.no_grad()
    def best(positions: Tensor) -> Tensor:
        """For each of (n, C) the vector with the greatest dot product, (n, C); the first of equals."""
        greatest = positions.new_full((len(positions),), -torch.inf)
        index = torch.zeros(len(positions), dtype=torch.long, device=positions.device)
        for start, some in zip(range(0, len(vectors), chunk), vectors.split(chunk), strict=True):
            values, indices = (positions @ some.T).max(1)
            better = values > greatest
            greatest = torch.where(better, values, greatest)
            index = torch.where(better, indices + start, index)
        return vectors[index]

    @objective(layer)
    def match(activations: Activations) -> Tensor:
        positions = activations[layer].flatten(2)[0].T  # (HW, C)
        return torch.stack([(some * best(some)).sum() for some in positions.split(chunk)]).sum()

    return match


def guided_by_channels(layer: str, guide: Tensor) -> Objective:
    """½ Σ v a², where v says how much each channel takes part in the guide: v = Σ_hw guide / ‖·‖₁ (Crowson, 2016).

    Smoother than matching, and free of the guide's arrangement.
    """
    share = guide.sum((2, 3), keepdim=True)
    share = share / share.abs().sum().clamp_min(1e-12)

    @objective(layer)
    def weighted(activations: Activations) -> Tensor:
        return (share * activations[layer].square()).sum() / 2

    return weighted


def gram(activations: Tensor) -> Tensor:
    """The correlations between feature maps: (B, C, h, w) → (B, C, C), mean over positions (Gatys et al., 2016, eq. 3).

    Sums over positions, and therefore forgets arrangement. Dividing by the number of positions makes pictures of
    different size comparable.
    """
    features = activations.flatten(2)
    return features @ features.mT / features.shape[-1]


def relative_distance(value: Tensor, target: Tensor) -> Tensor:
    """‖value − target‖² / ‖target‖²: 1 for a value of zero, whatever the network, the layer and the size.

    Differs from Gatys et al., whose weights have to be found anew for each network and size.
    """
    return (value - target).square().sum() / target.square().sum().clamp_min(1e-12)


def content_distance(targets: Activations) -> Objective:
    """How far a layer's activations are from the content's: mean over the layers of `targets` (Gatys et al., eq. 1)."""

    @objective(*targets)
    def distance(activations: Activations) -> Tensor:
        return torch.stack([relative_distance(activations[layer], target) for layer, target in targets.items()]).mean()

    return distance


def style_distance(targets: Mapping[str, Tensor]) -> Objective:
    """How far the Gram matrices are from the style's: mean over the layers of `targets` (Gatys et al., eqs. 4 and 5)."""

    @objective(*targets)
    def distance(activations: Activations) -> Tensor:
        return torch.stack([relative_distance(gram(activations[layer]), target) for layer, target in targets.items()]).mean()

    return distance


def total_variation(layer: str) -> Objective:
    """Mean squared difference between neighbours, of the image itself when `layer` is the network's input.

    In eight directions, diagonals with a quarter of the weight, so that it smooths alike in all of them (Crowson, 2021).
    """

    @objective(layer)
    def variation(activations: Activations) -> Tensor:
        image = activations[layer]
        rows, columns = image.diff(dim=-2), image.diff(dim=-1)
        straight = rows.square().mean() + columns.square().mean()
        falling, rising = rows[..., 1:] + columns[..., :-1, :], rows[..., :-1] - columns[..., :-1, :]
        return (4 * straight + falling.square().mean() + rising.square().mean()) / 6

    return variation
