"""The game: rounds with a clear answer, and the activations that decide it."""

import pytest

from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.optimise.scaling import fit
from featviz.recipes import presets
from featviz.runtime.exploration import Exploration
from featviz.runtime.game import CLEAR, KINDS, ROUNDS, Round, Tally, kind_of, peak_activations, rounds

CAT = presets.FOLDER / "cat.jpg"
LAYERS = ("efficientnet_lite0/block4", "efficientnet_lite0/block2")


def test_an_activation_is_the_highest_of_a_plain_pass():
    recipe = Exploration(layer=LAYERS[0], size=96)
    other, found = peak_activations(recipe, LAYERS, [CAT], image=presets.FOLDER / "mountain.jpg")
    assert other != found
    image = fit(to_tensor(open_picture(CAT)), 96, 32)
    for layer in LAYERS:
        name = layer.split("/")[1]
        maps = load("efficientnet_lite0").activations(image, [name])[name][0]
        assert found[layer] == pytest.approx(maps.flatten(1).max(1).values.tolist())


def test_rounds_have_a_clear_answer_and_the_visitors_picture_takes_part():
    pictures = [{"a": [1.0, 2.0, 9.0], "b": [float(number)] * 3} for number in range(1, 5)]
    made = {"a": [10.0, 10.0, 0.0], "b": [4.0, 4.0, 4.0]}
    played = rounds(pictures, made, seed=3, own=True)
    assert played == rounds(pictures, made, seed=3, own=True) != rounds(pictures, made, seed=4, own=True)
    assert [it.layer for it in played].count("a") == ROUNDS / 2
    for number, it in enumerate(played):
        assert it.pictures[0] != it.pictures[1]
        assert 0 in it.pictures or number % 2
        assert it.channel < 2 or it.layer == "b"  # The other channel of "a" has no picture that activates it.
        assert it.activations == tuple(pictures[i][it.layer][it.channel] / made[it.layer][it.channel] for i in it.pictures)
        assert it.layer == "a" or max(it.activations) >= CLEAR * min(it.activations)


def test_the_answer_of_a_round_is_the_picture_with_the_higher_activation():
    assert [Round("a", 0, (0, 1), activations).answer for activations in ((0.5, 0.2), (0.2, 0.5))] == [0, 1]


def test_answers_are_counted_by_round_and_by_what_was_shown():
    """Two games in which every round was shown once in each way."""
    tally, first, second = Tally(), [True] * ROUNDS, [False, True] * (ROUNDS // 2)
    tally.add(0, first)
    tally.add(1, second)
    assert [{kind_of(number, variant) for variant in (0, 1)} for number in range(ROUNDS)] == [set(KINDS)] * ROUNDS
    optimised, natural = (tally.by_round()[kind] for kind in KINDS)
    assert optimised[:2] == [(1, 1), (1, 1)]  # Round 1 in the first game, round 2 in the second.
    assert natural[:2] == [(0, 1), (1, 1)]
    assert tally.by_kind() == {"optimised": (10, 10), "natural": (5, 10)}
