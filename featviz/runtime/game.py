"""The game: two pictures and a channel. Which picture activates the channel more?"""

import random
import threading
from collections import Counter
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
"""In each round, one activation is at least this many times the other. If no draw has such a pair, the draw with the largest ratio is
used."""

TRIES = 200
"""The most draws of a channel and a pair of pictures for a round."""

FIXED = 0
"""The seed of the fixed rounds: without an own picture, everybody plays these first."""

KINDS = ("optimised", "natural")
"""What is shown of a channel: a picture that was made for it, or the part of a natural picture that activates it most."""

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

    @property
    def answer(self) -> int:
        """0 if the first picture activates the channel more, else 1."""
        return 0 if self.activations[0] > self.activations[1] else 1


class Tally:
    """How many answers to the fixed rounds were right, by round and kind of what was shown, since the process began.

    Nothing else is kept: no visitor, no time and no order. Thread-safe.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, str, bool]] = Counter()
        """(number of the round, kind, whether right) → answers."""
        self._lock = threading.Lock()

    def add(self, variant: int, right: Sequence[bool]) -> None:
        """Count the answers of one game: whether each was right."""
        answers = [(number, kind_of(number, variant), was_right) for number, was_right in enumerate(right)]
        with self._lock:
            self._counts.update(answers)

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Return kind → (right answers, all answers)."""
        return {
            kind: (sum(right for right, _ in shares), sum(every for _, every in shares))
            for kind, shares in self.by_round().items()
        }

    def by_round(self) -> dict[str, list[tuple[int, int]]]:
        """Return kind → for each round (right answers, all answers)."""
        with self._lock:
            counts = self._counts.copy()

        def share(kind: str, number: int) -> tuple[int, int]:
            right, wrong = (counts[number, kind, was_right] for was_right in (True, False))
            return right, right + wrong

        return {kind: [share(kind, number) for number in range(ROUNDS)] for kind in KINDS}


def kind_of(number: int, variant: int) -> str:
    """Return the kind of what is shown in a round: alternating, and in the other variant (0 or 1) the other kind in each round."""
    return KINDS[(number + variant) % 2]


def peak_activations(
    recipe: Exploration, layers: Collection[str], others: Sequence[Picture] = (), *, device: Device = "auto", image: Picture
) -> list[dict[str, list[float]]]:
    """Return the highest activation of each channel of some layers anywhere in a picture, for each picture.

    Args:
        recipe: the network and the size.
        layers: their addresses, all of that network.
        others: further pictures.
        device, image: as for `inspect_layer`, which raises the same.
    """
    return [_peaks(recipe, layers, device, picture) for picture in (image, *others)]


@torch.no_grad()
def _peaks(recipe: Exploration, layers: Collection[str], device: Device, image: Picture) -> dict[str, list[float]]:
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
