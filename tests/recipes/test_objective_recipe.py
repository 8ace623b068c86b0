"""Recipes with an objective of the user's, given in Python."""

import copy
import json

import pytest
import torch

import featviz
from featviz import DeepDream, DreamZoom, FeatureVisualization
from featviz.errors import InputError
from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.optimise import tiles
from featviz.optimise.ascent import ascent, exact_ascent
from featviz.optimise.objectives import channel, direction, energy, total_variation
from featviz.optimise.scaling import fit
from featviz.recipes import metadata, presets
from featviz.recipes.table import RECIPES, recipe_of

CAT = to_tensor(open_picture(presets.FOLDER / "cat.jpg"))
GOAL = channel("efficientnet_lite0/block4", 12) - 0.5 * total_variation("input")
QUICK = {"size": 96, "octaves": 1, "steps": 4}


def last(recipe, **pictures):
    *_, frame = recipe.run(load(recipe.network_name), **pictures)
    return frame


def mean(image, index=12):
    with torch.no_grad():
        return load("efficientnet_lite0").activations(image, ["block4"])["block4"][0, index].mean()


@pytest.mark.parametrize("kind", [DeepDream, FeatureVisualization])
def test_an_objective_names_the_network_and_replaces_what_the_fields_describe(kind):
    recipe = kind(objective=GOAL)
    assert recipe.network_name == "efficientnet_lite0"
    assert f"objective={GOAL}" in repr(recipe)
    assert recipe.changed_fields == {}
    assert "objective" not in kind.model_fields
    assert recipe == kind(objective=GOAL) != kind()
    for other in (recipe.replace(steps=3), recipe.model_copy(update={"steps": 3}), copy.deepcopy(recipe).replace(steps=3)):
        assert (str(other.objective), other.steps) == (str(GOAL), 3)
    assert recipe.replace(objective=None) == kind()


def test_a_dream_of_an_objective_maximises_it():
    image = fit(CAT, 96, 32)
    one, other = (
        last(DeepDream(objective=channel("efficientnet_lite0/block4", index), **QUICK), image=CAT).image for index in (12, 30)
    )
    assert mean(one) > max(mean(image), mean(other)) + 0.1
    assert mean(other, 30) > max(mean(image, 30), mean(one, 30)) + 0.1


def test_a_dream_of_the_energy_is_the_dream_of_its_layer():
    fields = QUICK | {"octaves": 2}
    dreams = (
        DeepDream(layer="efficientnet_lite0/block4", **fields),
        DeepDream(objective=energy("efficientnet_lite0/block4"), **fields),
    )
    assert torch.equal(*(last(dream, image=CAT).image for dream in dreams))


def test_a_film_and_a_visualization_of_an_objective():
    film = DreamZoom(objective=GOAL, size=64, octaves=1, seconds=0.2, fps=10)
    assert sum(frame.is_video_frame for frame in film.run(load("efficientnet_lite0"), image=CAT)) == 2
    frame = last(FeatureVisualization(objective=channel("efficientnet_lite0/block4", 12), size=64, steps=16, pictures=2))
    assert frame.image.shape == (1, 3, 64, 128)
    assert frame.stage == "objective"
    alone = last(FeatureVisualization(layer="efficientnet_lite0/block4", channel=12, size=64, steps=16))
    assert (mean(frame.image[..., :64]) - mean(alone.image)).abs() < 0.5 * mean(alone.image)


@pytest.mark.parametrize(
    "goal",
    [
        channel("block2", 3),
        direction("block4", torch.linspace(-1, 1, 40)) - 3 * total_variation("input"),
        channel("block2", 1) - energy("block1", [0, 2]) / 1e4,
    ],
    ids=str,
)
def test_by_tiles_any_objective_has_the_gradient_of_the_whole_image(goal):
    network, image = load("efficientnet_lite0"), fit(CAT, 288, 32)[..., :192, :256]
    value, whole = ascent(network, goal, image, tiles.WHOLE)
    tiled_value, tiled = exact_ascent(network, goal, image, 128)
    assert len([*tiles.tiling(network, image, goal.layers, 128)]) > 1
    assert (whole - tiled).abs().max() < 1e-3 * whole.abs().max()
    assert tiled_value.item() == pytest.approx(value.item(), rel=1e-3)


def test_a_dream_of_an_objective_by_tiles_is_the_dream_of_the_whole_image(monkeypatch):
    recipe = DeepDream(objective=GOAL, **QUICK | {"size": 256, "steps": 1, "jitter": 0})
    whole = last(recipe, image=CAT).image
    monkeypatch.setattr(tiles, "allowed", lambda: 1e6)
    assert (last(recipe, image=CAT).image - whole).abs().max() < 1e-3


def test_a_file_records_the_objective_and_says_that_it_cannot_be_run_from_it_alone(tmp_path):
    recipe = DeepDream(objective=GOAL, **QUICK)
    path = tmp_path / "dream.png"
    featviz.save(featviz.run(recipe, image=presets.FOLDER / "cat.jpg", device="cpu"), path)
    recorded = json.loads(metadata.find(path))
    assert recorded["objective"] == str(GOAL)
    assert recorded["network"] == "efficientnet_lite0"
    with pytest.raises(InputError, match=r"made with the objective channel.*but not from this file alone"):
        recipe_of(path)
    with pytest.raises(InputError, match="DeepDream\\(objective=…\\)"):
        metadata.from_json(metadata.as_json(recipe), RECIPES)


def test_the_demand_of_an_objective_by_tiles_counts_the_second_forward_pass(monkeypatch):
    network = load("efficientnet_lite0")
    recipe = DeepDream(objective=GOAL, **QUICK | {"size": 512})
    whole = recipe.demand(network, (512, 512))
    monkeypatch.setattr(tiles, "allowed", lambda: 1e6)
    tiled = recipe.demand(network, (512, 512))
    assert tiled.bytes < whole.bytes
    assert tiled.flops > whole.flops
