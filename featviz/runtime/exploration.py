"""Explore a picture: what each layer of a network sees at each place, why the picture has its name, and its names without a part.

The results are small, so that a page which has them follows a pointer without asking again. They are plain numbers and bytes: maps
row by row, whole numbers of two bytes with the low byte first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from featviz.media.images import MASK, Picture, to_picture, to_tensor
from featviz.networks.network import Network
from featviz.networks.receptive_field import ReceptiveField
from featviz.networks.table import LOGITS, class_names, split
from featviz.optimise import tiles
from featviz.optimise.gradients import soften
from featviz.optimise.precision import TINY
from featviz.optimise.scaling import fit, fitted_size, resize, size_of
from featviz.recipes.ablation import EDGE, NAMES, Ablation, without_region
from featviz.recipes.activation_maps import ActivationMaps, forward_demand
from featviz.recipes.deepdream import parse_channels
from featviz.recipes.evidence import Evidence
from featviz.recipes.recipe import Demand
from featviz.runtime.devices import Device
from featviz.runtime.inspection import network_and_image
from featviz.runtime.memory import open_reserved

PLACE_BYTES = 280_000
"""The most bytes of the channels of a layer by place. As base64 in JSON they are a third more."""

PER_PLACE = 8
"""The most channels of a place."""

OVERVIEW_SIDE = 28
"""The longest side of a layer's map in the overview, in places."""


class Exploration(ActivationMaps):
    """The network, the layer and the size of an exploration. `count`: the most channels of a place, at most `PER_PLACE`."""

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        """The demand of one forward pass that keeps the activations of all layers, as one for a backward pass does."""
        deepest = deepest_layer(network)
        once = forward_demand(network, deepest, size, self.size)
        kept = tiles.resident(network.cost({deepest}).bytes * math.prod(fitted_size(size, self.size)))
        return Demand(once.flops, max(once.bytes, kept), once.fixed_work)


@dataclass(frozen=True)
class Overview:
    """A layer as one small map."""

    layer: str
    """Its address, e.g. `vgg19/relu3_1`."""
    shape: tuple[int, int, int]
    """(channels, height, width) of its activations for this picture."""
    size: tuple[int, int]
    """(height, width) of `activity`: that of the layer, at most `OVERVIEW_SIDE`."""
    activity: bytes
    """The positive part of the activations, averaged over channels: 255 at the most active place."""


@dataclass(frozen=True)
class Places:
    """The strongest channels of a layer at each place of a picture."""

    layer: str
    """Its address."""
    shape: tuple[int, int, int]
    """(channels, height, width) of its activations for this picture."""
    field: ReceptiveField
    """The receptive field of its units in `Explored.image`."""
    count: int
    """Channels of each place."""
    channels: bytes
    """The channels of each place, the strongest first: height · width · count numbers of two bytes."""
    shares: bytes
    """Their shares of the positive activations of all channels at that place, 255 for all of it: height · width · count bytes."""


@dataclass(frozen=True)
class Explored:
    """What a network sees in a picture."""

    image: Image.Image
    """The picture as the network sees it. All functions of this module give the same numbers for it as for the original."""
    layers: tuple[Overview, ...]
    """All layers, from pixels to names."""
    names: Mapping[str, float]
    """The likeliest names and their probabilities, the likeliest first; empty for a network without a classifier."""
    places: Places


@dataclass(frozen=True)
class Explanation:
    """Why a picture has a name: `bias` and the contributions of all channels at all places add up to `logit`."""

    name: str
    logit: float
    """The score of the name, or the difference to that of another one."""
    bias: float
    size: tuple[int, int]
    """(height, width) of the last layer."""
    places: list[float]
    """What all channels add at each place of the last layer: the class activation map."""
    channels: Mapping[int, float]
    """What the strongest channels add: those for the name, then those against it, each the strongest first."""
    maps: list[list[float]]
    """What each of them adds at each place."""
    rest: float
    """What all other channels add."""


@torch.no_grad()
def explore(recipe: Exploration, *, device: Device = "auto", image: Picture) -> Explored:
    """Return an overview of all layers, the channels at each place of one layer, and the names, from one forward pass.

    A place has at most `recipe.count` channels, fewer where the layer has so many places that they would exceed `PLACE_BYTES`.
    Raises as `inspect_layer` does.
    """
    with network_and_image(recipe, device, image) as (network, tensor):
        seen = to_picture(fit(tensor, recipe.size, network.spec.smallest))
        chosen, names = split(recipe.layer)[1], [LOGITS] if has_classifier(network) else []
        activations = network.activations(to_tensor(seen, tensor.device), [*network.spec.layers, *names])
        logits = activations.pop(LOGITS).flatten() if names else None
        return Explored(
            image=seen,
            layers=tuple(_overview(f"{recipe.network_name}/{layer}", activations[layer][0]) for layer in network.spec.layers),
            names={} if logits is None else likeliest(logits, recipe.network_name),
            places=_places(recipe, activations[chosen][0], network.receptive_field(chosen)),
        )


def _overview(address: str, activations: Tensor) -> Overview:
    mean = activations.relu().mean(0)
    height, width = size_of(mean)
    if max(height, width) > OVERVIEW_SIDE:
        mean = functional.adaptive_avg_pool2d(mean[None], fitted_size((height, width), OVERVIEW_SIDE))[0]
    return Overview(address, (len(activations), height, width), size_of(mean), _as_bytes(mean / mean.max().clamp_min(TINY)))


def _places(recipe: Exploration, activations: Tensor, field: ReceptiveField) -> Places:
    activations = activations.relu()
    channels, height, width = activations.shape
    count = max(1, min(recipe.count, PER_PLACE, channels, PLACE_BYTES // (3 * height * width)))
    strongest = activations.topk(count, dim=0)
    shares = strongest.values / activations.sum(0).clamp_min(TINY)
    return Places(
        layer=recipe.layer,
        shape=(channels, height, width),
        field=field,
        count=count,
        channels=strongest.indices.permute(1, 2, 0).to("cpu", torch.int16).contiguous().numpy().astype("<i2").tobytes(),
        shares=_as_bytes(shares.permute(1, 2, 0)),
    )


def _as_bytes(shares: Tensor) -> bytes:
    """Return values in [0, 1] as bytes: 255 for 1."""
    return (255 * shares).round().to("cpu", torch.uint8).contiguous().numpy().tobytes()


def explain_name(recipe: Evidence, *, device: Device = "auto", image: Picture) -> Explanation:
    """Return the terms of a name's logit: those of each place, and those of the `recipe.count` strongest channels for and against it.

    Raises:
        FieldError: as for `featviz.recipes.evidence.logit_terms`.
        InputError, WeightsError, LimitError: as for `inspect_layer`.
    """
    with network_and_image(recipe, device, image) as (network, tensor):
        terms = recipe.terms(network, tensor)
        sums = terms.channels
        strongest = [channel for channels in terms.strongest(recipe.count) for channel in channels]
        channels = {channel: sums[channel].item() for channel in strongest}
        rest = (sums.sum() - sums[strongest].sum()).item()
        return Explanation(
            name=terms.class_name,
            logit=terms.value.item(),
            bias=terms.bias.item(),
            size=size_of(terms.places),
            places=terms.places.flatten().tolist(),
            channels=channels,
            maps=terms.contributions[strongest].flatten(1).tolist(),
            rest=rest,
        )


def switch_off(
    recipe: Ablation, names: Sequence[str] = (), *, device: Device = "auto", image: Picture, mask: Picture | None = None
) -> tuple[dict[str, float], tuple[int, ...]]:
    """Return the probabilities of names of a picture while a part is off, and the channels that are off.

    Args:
        recipe: the layer and the channels. Without channels and without a mask, the fewest that change the name are searched.
        names: names whose probability is returned beside those of the likeliest ones, which come first.
        device, image: as for `inspect_layer`.
        mask: what to switch off in the picture: white for this, black for the rest.

    Raises:
        FieldError: the layer has no such channel, or the weights have no classifier.
        InputError, WeightsError, LimitError: as for `inspect_layer`.
    """
    with network_and_image(recipe, device, image) as (network, tensor):
        seen = fit(tensor, recipe.size, network.spec.smallest)
        if mask is not None:
            painted = to_tensor(open_reserved(mask, MASK, recipe.size), tensor.device)
            seen = without_region(seen, soften(resize(painted, size_of(seen)), EDGE))
        for state in recipe.states(network, seen, searching=mask is None):
            logits, off = state.logits, tuple(state.off)
        return likeliest(logits, recipe.network_name, names), off or tuple(parse_channels(recipe.channels))


def likeliest(logits: Tensor, network: str, others: Sequence[str] = ()) -> dict[str, float]:
    """Return {name: probability} of the `NAMES` likeliest names by logits (classes,), the likeliest first, then of known others."""
    every, probabilities = class_names(network), logits.float().softmax(0).tolist()
    order = sorted(range(len(every)), key=lambda index: -probabilities[index])[:NAMES]
    known = [every.index(name) for name in others if name in every]
    return {every[index]: probabilities[index] for index in (*order, *known)}


def has_classifier(network: Network) -> bool:
    """Return whether the network names pictures."""
    return network.spec.classifier is not None


def deepest_layer(network: Network) -> str:
    """Return the classifier of a network, or its last layer if it has none."""
    return LOGITS if has_classifier(network) else list(network.spec.layers)[-1]
