"""The game: two pictures and a channel. Which picture activates the channel more?"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from featviz.media.images import Picture
from featviz.networks.table import split
from featviz.optimise.scaling import fit
from featviz.runtime.devices import Device
from featviz.runtime.exploration import Exploration
from featviz.runtime.inspection import network_and_image

ROUNDS = 10

CLEAR = 1.5
"""The least ratio of the two activations of a round. If no pair that is drawn reaches it, the round has the largest ratio."""

TRIES = 200
"""The most draws of a channel and a pair of pictures for a round."""

Peaks = Mapping[str, Sequence[float]]
"""Address of a layer → the highest activation of each of its channels."""


@dataclass(frozen=True)
class Round:
    """A question, and its answer."""

    layer: str
    channel: int
    pictures: tuple[int, int]
    """Positions in the list of pictures."""
    activations: tuple[float, float]
    """The highest activation in each, as a share of that on the picture that was made for the channel."""


@torch.no_grad()
def peak_activations(
    recipe: Exploration, layers: Collection[str], *, device: Device = "auto", image: Picture
) -> dict[str, list[float]]:
    """Return the highest activation of each channel of some layers anywhere in a picture.

    Args:
        recipe: the network and the size.
        layers: their addresses, all of that network.
        device, image: as for `inspect_layer`, which raises the same.
    """
    with network_and_image(recipe, device, image) as (network, tensor):
        seen = fit(tensor, recipe.size, network.spec.smallest)
        activations = network.activations(seen, [split(layer)[1] for layer in layers])
        return {layer: activations[split(layer)[1]][0].amax((1, 2)).tolist() for layer in layers}


def rounds(pictures: Sequence[Peaks], made: Peaks, seed: int, own: bool = False) -> list[Round]:
    """Return the rounds of a game: of each layer about equally many, the same for the same seed.

    Args:
        pictures: the peaks of each picture.
        made: those of the pictures that were optimised for the channels, as the atlas records them.
        seed: of the choice of channels and pairs.
        own: whether the first picture is the visitor's; then it takes part in every second round.
    """
    chance, layers = random.Random(seed), list(made)
    chance.shuffle(layers)
    return [
        _round(pictures, layers[number % len(layers)], made, chance, with_first=own and number % 2 == 0)
        for number in range(ROUNDS)
    ]


def _round(pictures: Sequence[Peaks], layer: str, made: Peaks, chance: random.Random, *, with_first: bool) -> Round:
    """Return the first clear round among `TRIES`, or the clearest one."""
    drawn = []
    channels = [channel for channel, peak in enumerate(made[layer]) if peak > 0]
    for _ in range(TRIES):
        channel, pair = chance.choice(channels), chance.sample(range(len(pictures)), 2)
        if with_first and 0 not in pair:
            pair[chance.randrange(2)] = 0
        activations = [max(0.0, pictures[i][layer][channel]) / made[layer][channel] for i in pair]
        ratio = max(activations) / max(min(activations), 1e-6)
        drawn.append((ratio, Round(layer, channel, (pair[0], pair[1]), (activations[0], activations[1]))))
        if ratio >= CLEAR:
            break
    return max(drawn, key=lambda item: item[0])[1]
