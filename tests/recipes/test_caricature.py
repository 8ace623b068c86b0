"""Caricature: the activations of the result are those of the picture, larger."""

import torch

from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.optimise.scaling import fit
from featviz.recipes import presets
from featviz.recipes.caricature import Caricature

CAT = to_tensor(open_picture(presets.FOLDER / "cat.jpg"))
NETWORK = "efficientnet_lite0"


def likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    return torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0).item()


def test_from_noise_the_activations_grow_in_the_direction_of_the_picture_s():
    network = load(NETWORK)
    first, *_, last = Caricature(layer=f"{NETWORK}/block4", size=96, steps=24).run(network, image=CAT)
    noise, result, picture = (
        network.activations(image, ["block4"])["block4"] for image in (first.image, last.image, fit(CAT, 96, 32))
    )
    assert likeness(result, picture) > 0.6 > 2 * likeness(noise, picture)
    assert (result * picture).mean() > 3 * (noise * picture).mean()


def test_more_likeness_keeps_the_proportions_and_less_the_strength():
    network = load(NETWORK)
    picture = network.activations(fit(CAT, 96, 32), ["block4"])["block4"]
    found = {}
    for weight in (0.0, 6.0):
        recipe = Caricature(layer=f"{NETWORK}/block4", size=96, steps=24, likeness=weight)
        *_, frame = recipe.run(network, image=CAT)
        maps = network.activations(frame.image, ["block4"])["block4"]
        found[weight] = likeness(maps, picture), (maps * picture).mean().item()
    assert found[6.0][0] > found[0.0][0]
    assert found[6.0][1] < found[0.0][1]
