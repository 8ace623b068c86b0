"""Feature visualisation on the bundled networks, judged by what the network answers to the picture."""

from functools import partial

import numpy as np
import pytest
import torch

from featviz.errors import FieldError
from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.networks.table import LOGITS, class_index
from featviz.optimise.gradients import blur
from featviz.optimise.parameterization import COLOURS, Spectrum, natural_magnitudes
from featviz.optimise.scaling import fit
from featviz.recipes import feature_visualization, presets
from featviz.recipes.feature_visualization import FeatureVisualization, faded
from featviz.recipes.recipe import Frame

CAT = fit(to_tensor(open_picture(presets.FOLDER / "cat.jpg")), 96, 32)
QUICK = {"layer": "efficientnet_lite0/block4", "channel": 7, "size": 64, "steps": 24}


def last(**fields):
    recipe = FeatureVisualization(**QUICK | fields)
    *_, frame = recipe.run(load(recipe.network_name))
    return frame


@torch.no_grad()
def means(image, layer=QUICK["layer"]):
    """What each channel answers to an image, mean over positions, (B, C)."""
    network, _, layer = layer.partition("/")
    return load(network).activations(image, [layer])[layer].mean((2, 3))


def test_the_channel_is_more_active_than_the_others_and_than_for_a_photograph_or_noise():
    channel, answers = QUICK["channel"], means(last().image)[0]
    assert answers.argmax() == channel
    others = means(CAT)[0, channel], means(torch.rand(1, 3, 64, 64))[0, channel]
    assert answers[channel] > 10
    assert answers[channel] > 3 * max(others)


def test_a_class_is_recognised_however_little_it_looks_like_noise():
    frame = last(layer="efficientnet_lite0/head", channel=93, class_name="hummingbird", size=96, steps=32)
    logits = load("efficientnet_lite0").logits(frame.image)[0]
    assert logits.argmax() == class_index("hummingbird")
    assert frame.loss < -10  # As the network saw it, moved, turned and scaled.
    assert load("efficientnet_lite0").activations(frame.image, [LOGITS])[LOGITS].max() > 10


def test_a_neuron_is_at_the_centre_and_the_rest_stays_grey():
    picture = last(answers="neuron", layer="vgg19/relu3_1", channel=3).image
    contrast = (picture - 0.5).abs().mean((0, 1))
    assert contrast[20:44, 20:44].mean() > 3 * contrast[:8].mean()  # It sees 24 pixels.


def test_phases_alone_activate_the_channel_and_every_magnitude_stays_that_of_natural_pictures():
    recipe, network = FeatureVisualization(**QUICK | {"parameterization": "phases"}), load("efficientnet_lite0")
    *_, frame = recipe.each(network, [3, QUICK["channel"]])
    image = frame.image[..., 64:]
    assert means(image)[0].argmax() == QUICK["channel"]
    planes = torch.einsum("cr,brhw->bchw", COLOURS.inverse(), 4 * torch.logit(image.double()).float())
    magnitudes = torch.fft.rfft2(planes, norm="ortho").abs()[0]
    assert torch.allclose(magnitudes, natural_magnitudes((64, 64)), rtol=0.01, atol=0.01)


def test_what_had_no_gradient_fades_to_white():
    generator = torch.Generator().manual_seed(0)
    images, acted = torch.rand(2, 3, 40, 40, generator=generator), torch.zeros(2, 1, 40, 40)
    acted[:, :, 10:30, 10:30] = torch.rand(2, 1, 20, 20, generator=generator)
    result = faded(images, acted)
    for image, sums, seen in zip(images, blur(acted, 1.0), result, strict=True):
        full = np.quantile(sums.numpy(), 0.8)
        for y, x in ((0, 0), (9, 15), (20, 20), (29, 29)):
            opacity = min(1.0, sums[0, y, x].item() / full)
            assert seen[:, y, x].tolist() == pytest.approx([1 - opacity + opacity * v for v in image[:, y, x].tolist()], abs=1e-5)
    neuron = {"answers": "neuron", "layer": "vgg19/relu3_1", "channel": 3}
    picture, whole = (last(**neuron, transparency=transparency).image for transparency in (True, False))
    assert picture[..., :8, :8].mean() > 0.99
    assert (picture - whole)[..., 28:36, 28:36].abs().mean() < 0.1


def test_the_gradients_are_read_for_transparency_alone(monkeypatch):
    """A frame that is not shown costs nothing."""
    read = []

    def gradient(step):
        read.append(step)
        return torch.ones(1, 3, 64, 64)

    def frames(*_, **__):
        for step in (1, 2):
            yield Frame(step, 2, "", step / 2, torch.zeros(()), torch.zeros(1, 3, 64, 64), gradient=partial(gradient, step))

    monkeypatch.setattr(feature_visualization, "maximise", frames)
    last()
    assert read == []
    last(transparency=True)
    assert read == [1, 2]


@pytest.mark.parametrize(("layer", "channel", "least"), [("vgg19/relu3_1", 14, 100), ("efficientnet_lite0/head", 5, 1)])
def test_a_channel_that_is_inactive_at_the_start_becomes_active(layer, channel, least):
    noise = Spectrum.noise((64, 64), torch.Generator().manual_seed(0))()
    assert not means(noise, layer)[0, channel]
    assert means(last(layer=layer, channel=channel).image, layer)[0, channel] > least


def test_several_pictures_are_side_by_side_and_diversity_makes_them_unlike():
    def likeness(diversity):
        image = last(pictures=2, diversity=diversity).image
        assert image.shape == (1, 3, 64, 128)
        activations = load("efficientnet_lite0").activations(torch.cat(image.split(64, dim=3)), ["block4"])["block4"].flatten(2)
        grams = (activations @ activations.mT).flatten(1)
        return torch.nn.functional.cosine_similarity(grams[0], grams[1], dim=0)

    assert likeness(3) < likeness(0) - 0.1


def test_channels_of_a_batch_give_the_same_pictures_as_each_alone():
    recipe, network = FeatureVisualization(**QUICK), load("efficientnet_lite0")
    *_, together = recipe.each(network, [3, 7, 11])
    *_, alone = recipe.run(network)
    assert torch.allclose(together.image[..., 64:128], alone.image, atol=0.1)
    assert not torch.allclose(together.image[..., :64], alone.image, atol=0.1)


def test_a_channel_that_does_not_exist_is_refused():
    with pytest.raises(FieldError, match="block4 has no channel 40; it has 0 to 39"):
        last(channel=40)
