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
    """The more likeness, the more they keep the proportions and the less their strength grows."""
    network = load(NETWORK)

    def seen(image: torch.Tensor) -> tuple[float, float]:
        maps, picture = (network.activations(one, ["block4"])["block4"] for one in (image, fit(CAT, 96, 32)))
        return likeness(maps, picture), (maps * picture).mean().item()

    found = {}
    for weight in (0.0, 1.0, 6.0):
        first, *_, last = Caricature(layer=f"{NETWORK}/block4", size=96, steps=24, likeness=weight).run(network, image=CAT)
        noise, found[weight] = seen(first.image), seen(last.image)
    assert found[1.0][0] > 0.6 > 2 * noise[0]
    assert found[1.0][1] > 3 * noise[1]
    assert found[6.0][0] > found[0.0][0]
    assert found[6.0][1] < found[0.0][1]
