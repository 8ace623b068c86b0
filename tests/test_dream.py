"""DeepDream on the bundled networks: what the taught loop promises."""

import copy

import pytest
import torch

from featviz import examples
from featviz.dream import DeepDream, ascent
from featviz.errors import FieldError, ImageError
from featviz.images import fit, open_picture, to_tensor
from featviz.networks import NETWORKS, Network, load
from featviz.objectives import energy

MOUNTAIN = to_tensor(open_picture(examples.FOLDER / "mountain.jpg"))
QUICK = {"layer": "efficientnet_lite0/block9", "size": 128, "octaves": 2, "steps": 3}


def last(recipe, image=MOUNTAIN):
    *_, frame = recipe.run(load(recipe.network_name), image=image)
    return frame


def test_the_gradient_is_that_of_the_layer_with_its_activations_for_a_gradient():
    """As taught: set the layer's gradient equal to the activations, and compute the gradient image."""
    network, image = load("vgg19"), fit(MOUNTAIN, 96, 32)
    _, ours = ascent(network, energy("relu3_3"), image, 999)
    leaf = image.clone().requires_grad_()
    activations = network.activations(leaf, ["relu3_3"])["relu3_3"]
    activations.backward(gradient=activations.detach())
    assert torch.equal(ours, leaf.grad)


def test_the_gradient_of_a_whole_network_equals_finite_differences():
    network = load("efficientnet_lite0")
    network = Network(network.spec, copy.deepcopy(network.trunk).double())
    image = fit(MOUNTAIN, 48, 32).double()
    _, gradient = ascent(network, energy("block5"), image, 999)
    for y, x in ((3, 4), (20, 40)):
        nudge = torch.zeros_like(image)
        nudge[0, 1, y, x] = 1e-6
        up, down = (energy("block5")(network.activations(image + sign * nudge, ["block5"])) for sign in (1, -1))
        assert ((up - down) / 2e-6).item() == pytest.approx(gradient[0, 1, y, x].item(), rel=1e-4)


@pytest.mark.parametrize("layer", ["efficientnet_lite0/stem", "efficientnet_lite0/block9", "vgg19/relu1_2", "vgg19/relu4_4"])
def test_a_dream_excites_its_layer_more_than_the_picture_did(layer):
    recipe = DeepDream(**QUICK | {"layer": layer})
    network, name = load(recipe.network_name), layer.split("/")[1]
    before = energy(name)(network.activations(fit(MOUNTAIN, 128, 32), [name]))
    after = energy(name)(network.activations(last(recipe).image, [name]))
    assert after > 1.2 * before


def test_the_first_step_changes_pixels_by_the_strength_on_average():
    recipe = DeepDream(**QUICK | {"strength": 2.0, "octaves": 1})
    image = 0.25 + 0.5 * fit(MOUNTAIN, 128, 32)  # Away from black and white, where clamping would take some of it.
    first = next(recipe.run(load(recipe.network_name), image=image))
    assert (first.image - image).abs().mean().item() * 255 == pytest.approx(2.0, rel=1e-3)


def test_every_frame_stays_in_range_and_counts_steps_stages_and_work():
    frames = list(DeepDream(**QUICK | {"strength": 10.0}).run(load("efficientnet_lite0"), image=MOUNTAIN))
    assert [frame.step for frame in frames] == [1, 2, 3, 4, 5, 6]
    assert {frame.steps for frame in frames} == {6}
    assert [frame.stage for frame in frames] == ["octave 1 of 2"] * 3 + ["octave 2 of 2"] * 3
    assert [frame.work for frame in frames] == sorted(frame.work for frame in frames)
    assert frames[2].work == pytest.approx(1 / (1 + 1.5**2), abs=0.01)  # The small octave has 1/1.5² of the pixels.
    assert frames[-1].work == 1
    assert all(0 <= frame.image.min() and frame.image.max() <= 1 for frame in frames)
    assert not any(frame.image.requires_grad for frame in frames)


def test_octaves_keep_the_sharp_detail_of_the_picture():
    """Without re-injection the fine texture would have been lost in the small octave."""

    def detail(image):
        return (image - torch.nn.functional.avg_pool2d(image, 5, 1, 2, count_include_pad=False)).flatten()

    original = fit(MOUNTAIN, 128, 32)
    dream = last(DeepDream(**QUICK | {"strength": 0.1})).image
    assert torch.corrcoef(torch.stack([detail(original), detail(dream)]))[0, 1] > 0.95


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_picture():
    one, two, other = (last(DeepDream(**QUICK, seed=seed)).image for seed in (7, 7, 8))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_octaves_too_small_for_the_network_are_left_out():
    frames = list(DeepDream(**QUICK | {"octaves": 10, "size": 80, "steps": 1}).run(load("efficientnet_lite0"), image=MOUNTAIN))
    assert frames[-1].stage == "octave 2 of 2"  # 80×53, 53×36, and 36×24 would be too small.


def test_a_flat_black_picture_gives_a_picture_and_no_nan():
    frame = last(DeepDream(**QUICK), torch.zeros(1, 3, 64, 64))
    assert frame.image.isfinite().all()
    assert frame.image.max() > 0


def test_a_narrow_picture_is_refused_before_the_first_step():
    with pytest.raises(ImageError, match="128×6 pixels; the network needs at least 32"):
        next(DeepDream(**QUICK).run(load("efficientnet_lite0"), image=torch.rand(1, 3, 20, 400)))


def test_an_unknown_layer_is_answered_with_the_nearest():
    with pytest.raises(FieldError, match="There is no layer 'vgg19/relu44'; did you mean 'vgg19/relu4_4'"):
        DeepDream(layer="vgg19/relu44")


def test_each_network_has_layers_to_dream_on():
    assert {DeepDream(layer=f"{name}/{layer}").network_name for name, spec in NETWORKS.items() for layer in spec.layers} == set(
        NETWORKS
    )
