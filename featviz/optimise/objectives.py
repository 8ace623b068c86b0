"""Objectives: scalar functions of activations to be maximised.

An objective is a weighted sum of terms. Objectives compose with `+`, `-`, `*` and `/`, as in Lucid (Olah et al., 2017), and
print as the algebra that they are:

    channel("vgg19/relu4_1", 12) - 0.5 * total_variation("input")

`DeepDream` and `FeatureVisualization` accept one, and `maximise` any over any parameterization:

    featviz.run(featviz.DeepDream(objective=channel("mine/layer3.1", 12) - 0.5 * channel("mine/layer3.1", 40)), image="cat.jpg")

An address is `network/layer`, as in recipes: the text before the first slash is the network. An address without a slash is a
layer of the network that the objective is evaluated on. `input` is the image itself, `logits` the output of a classifier.

An objective reads a mapping {layer: (B, C, h, w)}, whose keys are layers without their network. A distance is 0 at its
target and larger elsewhere, so subtract it from an objective.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce

import torch
from torch import Tensor
from torch.nn import functional

from featviz.errors import FieldError, InputError, short
from featviz.optimise.precision import TINY
from featviz.optimise.transfers import constant

__all__ = [
    "Objective",
    "caricature",
    "channel",
    "content_distance",
    "direction",
    "direction_cosine",
    "diversity",
    "energy",
    "guided_by_channels",
    "guided_by_match",
    "neuron",
    "objective",
    "style_distance",
    "total_variation",
]

Activations = Mapping[str, Tensor]
"""Layer, without its network → activations (B, C, h, w)."""

CHUNK = 2048
"""Positions of an image and vectors of a guide that are compared at a time: 17 MB of dot products."""


@dataclass(frozen=True)
class Term:
    """A function of the activations of some layers."""

    text: str
    """How it prints."""
    network: str
    """The network in its addresses, "" if they name none."""
    layers: tuple[str, ...]
    function: Callable[..., Tensor]
    """The activations of each layer, in the order of `layers` → ()."""
    channels: tuple[int, ...] = ()
    """Channels that the first layer needs to have."""


class Objective:
    """A weighted sum of functions of activations, to be maximised."""

    def __init__(self, terms: Sequence[tuple[float, Term]]):
        self.terms = tuple(terms)
        self.network = _common(term.network for _, term in self.terms)
        """The network in its addresses, "" if they name none."""
        self.layers = frozenset(layer for _, term in self.terms for layer in term.layers)
        """The layers that it reads, without their network."""

    def __call__(self, activations: Activations) -> Tensor:
        """Return the value, (). Raises InputError for activations that the objective cannot be applied to."""
        values = (weight * term.function(*(activations[layer] for layer in term.layers)) for weight, term in self.terms)
        return reduce(operator.add, values)

    def __add__(self, other: Objective) -> Objective:
        return Objective(self.terms + other.terms) if isinstance(other, Objective) else NotImplemented

    def __radd__(self, other: int) -> Objective:
        """Let `sum` add objectives: it begins with 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __mul__(self, factor: float) -> Objective:
        if not isinstance(factor, (int, float)):
            return NotImplemented
        return Objective([(weight * factor, term) for weight, term in self.terms])

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Objective:
        if not isinstance(divisor, (int, float)):
            return NotImplemented
        if divisor == 0:
            raise FieldError("An objective cannot be divided by 0.")
        return self * (1 / divisor)

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        return self + -other if isinstance(other, Objective) else NotImplemented

    def __str__(self) -> str:
        parts: list[str] = []
        for weight, term in self.terms:
            factor = "" if abs(weight) == 1 else f"{repr(float(abs(weight))).removesuffix('.0')} * "
            sign = ("-" if weight < 0 else "") if not parts else " - " if weight < 0 else " + "
            parts.append(f"{sign}{factor}{term.text}")
        return "".join(parts)

    __repr__ = __str__


def objective(*addresses: str, text: str = "", channels: Sequence[int] = ()) -> Callable[[Callable[..., Tensor]], Objective]:
    """Decorator: make an `Objective` of a function that takes the activations (B, C, h, w) of each address and returns ().

        @objective("vgg19/relu4_1")
        def contrast(values):
            return values.var(dim=(2, 3)).mean()

    It prints as `text`, by default as the name of the function with the addresses. `channels` are those that the first layer
    needs to have.
    """
    pairs = [address.partition("/")[::2] if "/" in address else ("", address) for address in addresses]

    def made(function: Callable[..., Tensor]) -> Objective:
        printed = text or _call(function.__name__, *addresses)
        network, layers = _common(network for network, _ in pairs), tuple(layer for _, layer in pairs)
        return Objective([(1.0, Term(printed, network, layers, function, tuple(channels)))])

    return made


def energy(address: str, channels: Sequence[int] = ()) -> Objective:
    """Return ½‖a‖² of a layer, or of some of its channels: DeepDream (Mordvintsev et al., 2015).

    Its gradient with respect to the activations is the activations themselves, so the strongest get most weight.
    """
    channels = _checked(channels)

    @objective(address, text=_call("energy", address, *([channels] if channels else [])), channels=channels)
    def half_squared_norm(values: Tensor) -> Tensor:
        chosen = values[:, _indices(channels, values)] if channels else values
        return chosen.square().sum() / 2

    return half_squared_norm


def channel(address: str, index: int | Sequence[int]) -> Objective:
    """Return the activation of a channel: mean over positions, summed over the batch (Olah et al., 2017).

    `index` is one channel for the whole batch, or a sequence with a channel for each image. Of logits, it is a class.
    """

    channels = _checked(index)
    index = channels if isinstance(index, Iterable) else channels[0]

    @objective(address, text=_call("channel", address, index), channels=channels)
    def mean_activation(values: Tensor) -> Tensor:
        return _maps(values, index).mean((1, 2)).sum()

    return mean_activation


def neuron(address: str, index: int | Sequence[int]) -> Objective:
    """Return the activation of a channel at the centre position, summed over the batch (Olah et al., 2017).

    `index` as for `channel`. The result is one object in the middle instead of a pattern all over.
    """

    channels = _checked(index)
    index = channels if isinstance(index, Iterable) else channels[0]

    @objective(address, text=_call("neuron", address, index), channels=channels)
    def centre(values: Tensor) -> Tensor:
        maps = _maps(values, index)
        return maps[:, maps.shape[1] // 2, maps.shape[2] // 2].sum()

    return centre


def direction(address: str, vector: Sequence[float] | Tensor) -> Objective:
    """Return the dot product of activations and a vector (C,) in channel space: mean over positions, summed over the batch.

    `channel(address, i)` is the direction of the i-th unit vector. After `direction` of Lucid (Olah et al., 2018).
    """
    vector = _vector(vector)
    fitting = _fitting(vector)

    @objective(address, text=_call("direction", address, vector), channels=[len(vector) - 1])
    def dot_product(values: Tensor) -> Tensor:
        return torch.einsum("bchw,c->bhw", values, fitting(values)).mean((1, 2)).sum()

    return dot_product


def direction_cosine(address: str, vector: Sequence[float] | Tensor) -> Objective:
    """Return the cosine between activations and a vector (C,) in channel space: mean over positions, summed over the batch.

    In [-B, B]. After `direction_cossim` of Lucid (Olah et al., 2018). Unlike `direction`, it does not grow with the strength of
    the activations, only with their likeness to the vector.
    """
    vector = _vector(vector)
    fitting = _fitting(vector)

    @objective(address, text=_call("direction_cosine", address, vector), channels=[len(vector) - 1])
    def cosine(values: Tensor) -> Tensor:
        like = fitting(values).view(1, -1, 1, 1)
        return functional.cosine_similarity(values, like, dim=1, eps=TINY).mean((1, 2)).sum()

    return cosine


def caricature(address: str, target: Tensor, power: float = 2.0) -> Objective:
    """Return the dot product of activations with those of a picture, times their cosine to a power, summed over the batch.

    `target` is (1, C, h, w), for images of the size of the picture. The product alone grows with what is strong anywhere; the cosine
    keeps the proportions, so the result exaggerates what the layer sees in the picture, where it sees it. After `dot_compare` of
    Lucid (Olah et al., 2018). The product is a mean over positions. Differs from Lucid: a cosine under 0.1 counts as 0.1, so that
    noise has a gradient.
    """

    @objective(address, text=_call("caricature", address, target, power), channels=[target.shape[1] - 1])
    def exaggeration(values: Tensor) -> Tensor:
        if values.shape[1:] != target.shape[1:]:
            raise InputError(
                f"The picture of a caricature has activations of {_shape(target)}, the image of {_shape(values)}; "
                "expected the same size."
            )
        like = target.to(values).expand_as(values).flatten(1)
        cosine = functional.cosine_similarity(values.flatten(1), like, dim=1, eps=TINY).clamp_min(0.1)
        product = (values.flatten(1) * like).sum(1) / math.prod(values.shape[-2:])
        return (product * cosine**power).sum()

    return exaggeration


def diversity(address: str) -> Objective:
    """Return minus the mean cosine between the Gram matrices of the images of a batch, in [-1, 0] (Olah et al., 2017).

    Larger means less alike. Needs a batch of at least two images.
    """

    @objective(address, text=_call("diversity", address))
    def unlikeness(values: Tensor) -> Tensor:
        if len(values) < 2:
            raise InputError(f"diversity compares the images of a batch; expected at least 2 images, not {len(values)}.")
        grams = gram(values).flatten(1)
        likeness = functional.cosine_similarity(grams.unsqueeze(0), grams.unsqueeze(1), dim=2)
        pairs = torch.triu_indices(len(grams), len(grams), 1, device=grams.device)
        return -likeness[pairs[0], pairs[1]].mean()

    return unlikeness


def guided_by_match(address: str, guide: Tensor, *, chunk: int = CHUNK) -> Objective:
    """Pull every position towards the best matching feature vector of a guide, by dot product (Mordvintsev et al., 2015).

    `guide` is (1, C, h, w). The gradient at a position is the vector that matches it best. `chunk` positions are compared with
    `chunk` vectors at a time, so the products take 4 · chunk² bytes, whatever the size of both images.
    """
    vectors = guide.flatten(2)[0].T  # (hw, C)

    @torch.no_grad()
    def best(positions: Tensor) -> Tensor:
        """Return for each of (n, C) the vector with the greatest dot product, (n, C); the first of equals."""
        greatest = positions.new_full((len(positions),), -torch.inf)
        index = torch.zeros(len(positions), dtype=torch.long, device=positions.device)
        for start, part in zip(range(0, len(vectors), chunk), vectors.split(chunk), strict=True):
            values, indices = (positions @ part.T).max(1)
            better = values > greatest
            greatest = torch.where(better, values, greatest)
            index = torch.where(better, indices + start, index)
        return vectors[index]

    @objective(address, text=_call("guided_by_match", address, guide))
    def match(values: Tensor) -> Tensor:
        positions = values.flatten(2).mT.flatten(0, 1)  # (B · HW, C)
        return torch.stack([(part * best(part)).sum() for part in positions.split(chunk)]).sum()

    return match


def guided_by_channels(address: str, guide: Tensor) -> Objective:
    """Return ½ Σ v a², where v is the share of each channel in a guide (1, C, h, w): v = Σ_hw guide / ‖·‖₁ (Crowson, 2016).

    Smoother than matching. It does not depend on the arrangement of the guide.
    """
    share = guide.sum((2, 3), keepdim=True)
    share = share / share.abs().sum().clamp_min(TINY)

    @objective(address, text=_call("guided_by_channels", address, guide))
    def weighted(values: Tensor) -> Tensor:
        return (share * values.square()).sum() / 2

    return weighted


def gram(activations: Tensor) -> Tensor:
    """Return the products of feature maps, (B, C, h, w) → (B, C, C), mean over positions (Gatys et al., 2016, eq. 3).

    Differs from Gatys et al., who sum over positions: the mean makes images of different sizes comparable.
    """
    features = activations.flatten(2)
    return features @ features.mT / features.shape[-1]


def relative_distance(value: Tensor, target: Tensor) -> Tensor:
    """Return ‖value − target‖² / ‖target‖², (): 1 for a value of zero, whatever the network, the layer and the size.

    Differs from Gatys et al. (2016), whose weights have to be tuned for each network and size.
    """
    return (value - target).square().sum() / target.square().sum().clamp_min(TINY)


def content_distance(targets: Activations) -> Objective:
    """Return the relative distance of activations from those of a content, mean over the layers (Gatys et al., 2016, eq. 1).

    `targets` is {layer: (1, C, h, w)}, as `Network.activations` returns it.
    """
    return _mean_distance("content_distance", targets, lambda values: values)


def style_distance(targets: Mapping[str, Tensor]) -> Objective:
    """Return the relative distance of Gram matrices from those of a style, mean over the layers (Gatys et al., 2016, eqs. 4, 5).

    `targets` is {layer: (1, C, C)}, as `gram` returns them.
    """
    return _mean_distance("style_distance", targets, gram)


def total_variation(address: str) -> Objective:
    """Return the mean squared difference between neighbours: of the image itself if the address is `input`.

    In eight directions, diagonals with a quarter of the weight, so that it smooths alike in all of them (Crowson, 2021).
    """

    @objective(address, text=_call("total_variation", address))
    def variation(image: Tensor) -> Tensor:
        rows, columns = image.diff(dim=-2), image.diff(dim=-1)
        straight = rows.square().mean() + columns.square().mean()
        falling, rising = rows[..., 1:] + columns[..., :-1, :], rows[..., :-1] - columns[..., :-1, :]
        return (4 * straight + falling.square().mean() + rising.square().mean()) / 6

    return variation


def _shape(values: Tensor) -> str:
    """Return the size of activations (B, C, h, w) for people."""
    return " × ".join(map(str, values.shape[1:]))


def _common(networks: Iterable[str]) -> str:
    """Return the network that addresses name, "" if none does. Raises InputError if they name several."""
    names = list(dict.fromkeys(filter(None, networks)))
    if len(names) > 1:
        raise InputError(f"An objective has layers of '{short(names[0])}' and '{short(names[1])}'; expected one network.")
    return names[0] if names else ""


def _call(name: str, *arguments: object) -> str:
    """Return a call as it prints; a tensor as its shape."""
    texts = (
        f"<{' × '.join(map(str, argument.shape))} values>"
        if isinstance(argument, Tensor)
        else json.dumps(argument, ensure_ascii=False)
        for argument in arguments
    )
    return f"{name}({', '.join(texts)})"


def _checked(indices: int | Sequence[int]) -> tuple[int, ...]:
    """Return channels as a tuple. Raises FieldError for anything but whole numbers of at least 0."""
    given = indices if isinstance(indices, Iterable) else (indices,)
    return tuple(map(_whole_number, given))


def _whole_number(index: object) -> int:
    """Return an index as an int, also if it is an integer of NumPy. Raises FieldError for anything else and below 0."""
    try:
        number = operator.index(index)  # type: ignore[arg-type]  # Raises TypeError itself.
    except TypeError:
        number = -1
    if number < 0:
        raise FieldError(f"There is no channel {short(index)}; expected whole numbers from 0.")
    return number


def _maps(values: Tensor, index: int | Sequence[int]) -> Tensor:
    """Return one feature map for each image, (B, C, h, w) → (B, h, w)."""
    if isinstance(index, int):
        return values[:, index]
    if len(index) != len(values):
        raise InputError(f"The objective has {len(index)} channels for {len(values)} images; expected a channel for each image.")
    return values[_indices(range(len(index)), values), _indices(index, values)]


def _indices(numbers: Iterable[int], like: Tensor) -> Tensor:
    """Return indices as a tensor on the device of activations, where they are uploaded once."""
    return constant(tuple(numbers), like.device, torch.long)


def _vector(values: Sequence[float] | Tensor) -> Tensor:
    """Return a copy of a vector (C,). Raises InputError for anything else."""
    try:
        vector = torch.as_tensor(values).detach().clone()
    except (TypeError, ValueError):
        raise InputError(f"A direction is a vector (C,) of finite numbers; this is {short(values)}.") from None
    if vector.ndim != 1 or not len(vector):
        raise InputError(f"A direction is a vector (C,) of finite numbers; this one has the shape {tuple(vector.shape)}.")
    if not vector.isfinite().all():
        raise InputError("A direction is a vector (C,) of finite numbers; this one has NaN or infinite values.")
    return vector


def _fitting(vector: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function of activations that returns a vector (C,) on their device and in their type, uploaded once.

    It raises InputError if their channels differ.
    """
    uploaded = cache(vector.to)

    def fitting(values: Tensor) -> Tensor:
        if len(vector) != values.shape[1]:
            raise InputError(f"The direction has {len(vector)} numbers; expected {values.shape[1]}, one for each channel.")
        return uploaded(values.device, values.dtype)

    return fitting


def _mean_distance(name: str, targets: Mapping[str, Tensor], statistic: Callable[[Tensor], Tensor]) -> Objective:
    """Return the relative distance of a statistic from its targets, mean over the layers."""

    def distance(*layers: Tensor) -> Tensor:
        pairs = zip(layers, targets.values(), strict=True)
        return torch.stack([relative_distance(statistic(values), target) for values, target in pairs]).mean()

    return Objective([(1.0, Term(_call(name, *targets), "", tuple(targets), distance))])
