"""Style transfer on the bundled networks, judged by a loss of the other one and by simple statistics."""

import pytest
import torch

from featviz import examples
from featviz.images import fit, open_picture, resize, to_tensor
from featviz.networks import BUNDLED, load
from featviz.objectives import content_distance, gram, style_distance
from featviz.style import StyleTransfer, resized

CAT, WAVE = (to_tensor(open_picture(examples.FOLDER / f"{name}.jpg")) for name in ("cat", "great_wave"))
QUICK = {"network": "efficientnet_lite0", "size": 160, "scales": 2, "steps": 12}


def last(recipe, content=CAT, style=WAVE):
    *_, frame = recipe.run(load(recipe.network), content=content, style=style)
    return frame


def distances(image, size=160, judge="vgg19"):
    """(style, content) as another network sees them."""
    network = load(judge)
    layers, deep = [layer for layer in network.spec.style_layers if layer != "input"], network.spec.content_layer
    with torch.no_grad():
        wave = network.activations(fit(WAVE, size, 32), layers)
        style = style_distance({layer: gram(value) for layer, value in wave.items()})(network.activations(image, layers))
        content = content_distance(network.activations(fit(CAT, size, 32), [deep]))(network.activations(image, [deep]))
    return style.item(), content.item()


@pytest.mark.parametrize(("network", "judge"), [("efficientnet_lite0", "vgg19"), ("vgg19", "efficientnet_lite0")])
def test_the_style_comes_and_the_content_stays_as_the_other_network_sees_them(network, judge):
    result = last(StyleTransfer(**QUICK | {"network": network})).image
    style_before, _ = distances(fit(CAT, 160, 32), judge=judge)
    _, content_without = distances(resize(fit(WAVE, 160, 32), (107, 160)).clamp(0, 1), judge=judge)
    style, content = distances(result, judge=judge)
    assert style < 0.85 * style_before
    assert content < 0.85 * content_without  # Nearer to the cat than the wave itself is.


def test_more_style_strength_means_more_style_and_less_content():
    results = [distances(last(StyleTransfer(**QUICK, style_strength=strength)).image) for strength in (0.1, 1.0, 10.0)]
    styles, contents = zip(*results, strict=True)
    assert styles[0] > styles[1]
    assert contents[0] < contents[1] < contents[2]


@pytest.mark.parametrize("network", BUNDLED)
def test_one_strength_behaves_alike_at_two_sizes(network):
    """The same share of the way from the content's to the style's correlations, as the network itself sees them."""

    def share(size):
        before, _ = distances(fit(CAT, size, 32), size, network)
        after, _ = distances(last(StyleTransfer(**QUICK | {"network": network, "size": size})).image, size, network)
        return after / before

    assert share(192) == pytest.approx(share(128), abs=0.15)


def test_identical_content_and_style_is_a_fixed_point():
    image = fit(CAT, 96, 32)
    recipe = StyleTransfer(**QUICK | {"size": 96, "scales": 1, "steps": 5, "smoothness": 0.0})
    assert (last(recipe, image, image).image - image).abs().max() < 1e-3


def test_more_smoothness_means_less_variation():
    rough, smooth = (last(StyleTransfer(**QUICK, smoothness=s)).image for s in (0.0, 5.0))
    assert smooth.diff(dim=-1).abs().mean() < 0.9 * rough.diff(dim=-1).abs().mean()


def test_style_scale_sets_the_size_of_the_style_and_never_enlarges_it():
    assert StyleTransfer(style_scale=0.5).sized(WAVE, 400).shape[-1] == 200
    assert StyleTransfer(style_scale=4.0).sized(WAVE, 400).shape == WAVE.shape
    small, large = (last(StyleTransfer(**QUICK, style_scale=scale)).image for scale in (0.5, 2.0))
    assert (small - large).abs().mean() > 0.02


def test_every_frame_stays_in_range_and_counts_steps_stages_and_work():
    frames = list(StyleTransfer(**QUICK).run(load("efficientnet_lite0"), content=CAT, style=WAVE))
    assert [frame.step for frame in frames] == list(range(1, 12 + 8 + 1))  # Each scale takes 0.7 times the steps of the last.
    assert frames[11].stage == "scale 1 of 2"
    assert frames[12].stage == "scale 2 of 2"
    assert frames[-1].work == 1
    assert all(0 <= frame.image.min() and frame.image.max() <= 1 and not frame.image.requires_grad for frame in frames)
    assert frames[11].loss < frames[0].loss


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_picture():
    one, two, other = (last(StyleTransfer(**QUICK | {"steps": 3}, init="noise", seed=seed)).image for seed in (7, 7, 8))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_adams_state_is_resized_and_its_step_and_signs_kept():
    moments = {"step": torch.tensor(9.0), "exp_avg": torch.full((1, 3, 4, 4), -0.5), "exp_avg_sq": torch.rand(1, 3, 4, 4)}
    larger = resized(moments, (8, 6))
    assert larger["step"] == 9
    assert torch.allclose(larger["exp_avg"], torch.tensor(-0.5))
    assert larger["exp_avg"].shape == larger["exp_avg_sq"].shape == (1, 3, 8, 6)
    assert larger["exp_avg_sq"].min() >= 0


@pytest.mark.parametrize("style", [torch.zeros(1, 3, 64, 64), torch.full((1, 3, 64, 64), 0.5), torch.ones(1, 3, 64, 64)])
def test_a_flat_style_gives_a_picture_and_no_nan(style):
    assert last(StyleTransfer(**QUICK | {"steps": 2}), style=style).image.isfinite().all()
