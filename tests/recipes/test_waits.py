"""No step of a recipe waits for its device: counted on a stand-in for a GPU, since none is here."""

import pytest
import torch
from card import Waits, network

from featviz.optimise import objectives
from featviz.optimise.transfers import constant
from featviz.recipes.ablation import Ablation
from featviz.recipes.activation_maps import ActivationMaps
from featviz.recipes.caricature import Caricature
from featviz.recipes.classification import Classification
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.deepdream_zoom import DeepDreamZoom
from featviz.recipes.evidence import Evidence
from featviz.recipes.feature_accentuation import FeatureAccentuation
from featviz.recipes.feature_visualization import FeatureVisualization
from featviz.recipes.layer_time_lapse import LayerTimeLapse
from featviz.recipes.reconstruction import ReconstructContent, ReconstructStyle
from featviz.recipes.style_transfer import StyleTransfer
from featviz.recipes.table import RECIPES

DREAM = {"layer": "vgg19/relu2_1", "size": 64, "octaves": 1, "steps": 2}
STYLE = {"size": 64, "scales": 1, "steps": 2, "style_layers": "relu1_1, relu3_1", "content_layers": "relu2_2"}
PAIR = ("content", "style")
MIXED = (
    objectives.direction("vgg19/relu2_1", [1.0] * 128)
    + objectives.direction_cosine("vgg19/relu2_1", [1.0] * 128)
    - objectives.total_variation("input")
)

STEPS = {
    "dream": (DeepDream(**DREAM), ["image"]),
    "dream of channels, laplacian": (DeepDream(**DREAM, channels="1, 2", gradient="laplacian", keep_colours=True), ["image"]),
    "dream of layers, gaussian": (DeepDream(**DREAM, more_layers="relu1_1", gradient="gaussian"), ["image", "mask"]),
    "dream along a guide": (DeepDream(**DREAM, outside="vgg19/relu1_1"), ["image", "guide", "mask"]),
    "dream of shares": (DeepDream(**DREAM, guide_by="channels", octaves_above=1), ["image", "guide"]),
    "dream of a class": (DeepDream(**DREAM | {"layer": "efficientnet_lite0/block2"}, class_name="tabby"), ["image"]),
    "dream of an objective": (DeepDream(objective=MIXED, size=64, octaves=1, steps=2), ["image"]),
    "zoom": (DeepDreamZoom(layer="vgg19/relu2_1", size=64, octaves=1, steps=1, seconds=1), ["image"]),
    "layers": (LayerTimeLapse(network="vgg19", size=64, octaves=1, steps=3), ["image"]),
    "style": (StyleTransfer(**STYLE), PAIR),
    "style, two inside a mask": (StyleTransfer(**STYLE, colours="content"), [*PAIR, "style2", "mask"]),
    "style by Adam": (StyleTransfer(**STYLE, statistic="covariance", optimiser="adam"), [*PAIR, "mask"]),
    "feature": (FeatureVisualization(size=64, steps=2), []),
    "features": (FeatureVisualization(size=64, steps=2, pictures=2, answers="neuron"), []),
    "accentuation": (FeatureAccentuation(size=64, steps=2), ["image"]),
    "caricature": (Caricature(size=64, steps=2), ["image"]),
    "content": (ReconstructContent(size=64, steps=2), ["image"]),
    "texture": (ReconstructStyle(size=64, steps=2), ["style"]),
}
"""Runs of at least two steps: every recipe, and every part of a step that has a choice."""


@pytest.fixture(autouse=True)
def _no_constants():
    """A constant of the stand-in must not reach another test."""
    yield
    constant.cache_clear()


@pytest.mark.parametrize(("recipe", "roles"), STEPS.values(), ids=STEPS)
def test_a_step_waits_for_nothing(recipe, roles):
    with Waits() as waits:
        frames = recipe.run(network(recipe.network_name), **{role: torch.empty(1, 3, 64, 64, device="meta") for role in roles})
        next(frames)  # The first step sets up, and may wait.
        waits.lines.clear()
        frame = next(frames)
        assert waits.lines == {}
        assert (frame.image.is_meta, frame.loss.is_meta) == (True, True)
        assert all(value.is_meta for value in frame.measures.values())
        assert waits.lines == {}


def test_every_recipe_of_more_than_one_step_is_counted():
    single = {ActivationMaps, Classification, Evidence}  # They read what they label pictures with.
    deciding = {Ablation}  # Its next step depends on the names of this one.
    assert {type(recipe) for recipe, _ in STEPS.values()} == set(RECIPES.values()) - single - deciding


def test_the_stand_in_counts_each_way_to_wait():
    there = torch.empty(3, 3, device="meta")
    ways = {
        "number": lambda: there.sum().item(),
        "decision": lambda: bool((there > 0).all()),
        "mask": lambda: there[there > 0],
        "copy": lambda: there.cpu(),
        "eigenvalues": lambda: torch.linalg.eigvalsh(there),
        "constant": lambda: there.new_tensor([1.0]),
        "list": lambda: there[:, [0, 1]],
        "upload": lambda: torch.ones(3).to("meta"),
    }
    for way, wait in ways.items():
        with Waits() as waits:
            wait()
        assert waits.lines.total() == 1, (way, waits.lines)
    with Waits() as waits:
        there.to("cpu", non_blocking=True)
    assert waits.lines.total() == 0
