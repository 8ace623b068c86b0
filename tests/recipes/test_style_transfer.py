"""Style transfer on the bundled networks, judged by a loss of another network and by simple statistics."""

from itertools import product

import numpy as np
import pytest
import torch

from featviz import run
from featviz.errors import InputError
from featviz.media.images import open_picture, to_picture, to_tensor
from featviz.networks.cache import load
from featviz.networks.table import BUNDLED, INPUT, NETWORKS
from featviz.optimise.gradients import luminance
from featviz.optimise.scaling import fit, resize
from featviz.optimise.style_statistics import STATISTICS, moments, second_moment
from featviz.recipes import presets, style_target
from featviz.recipes.style_transfer import OPTIMISERS, StyleTransfer, recoloured

CAT, WAVE, TERRACE = (to_tensor(open_picture(presets.FOLDER / f"{name}.jpg")) for name in ("cat", "great_wave", "cafe_terrace"))
QUICK = {"network": "efficientnet_lite0", "size": 160, "scales": 2, "steps": 10}
SHORT = QUICK | {"size": 96, "scales": 1, "steps": 4}


def last(recipe, content=CAT, style=WAVE, **options):
    *_, frame = recipe.run(load(recipe.network), content=content, style=style, **options)
    return frame


def relative(value, target):
    return ((value - target).square().sum() / target.square().sum()).item()


def style_of(image, judge, style=WAVE):
    """How far an image, or a part of one, is from a style as another network sees it."""
    network = load(judge)
    layers = [layer for layer in network.spec.style_layers if layer != INPUT][:4]
    with torch.no_grad():
        found, wanted = network.activations(image, layers), network.activations(fit(style, 160, 32), layers)
    apart = [relative(second_moment(moments(found[layer])), second_moment(moments(wanted[layer]))) for layer in layers]
    return sum(apart) / len(layers)


def distances(image, judge, style=WAVE, content=CAT):
    """(style, content) as another network sees them."""
    network = load(judge)
    deep = network.spec.content_layer
    with torch.no_grad():
        found, kept = (network.activations(one, [deep])[deep] for one in (image, fit(content, max(image.shape[-2:]), 32)))
    return style_of(image, judge, style), relative(found, kept)


def other(network):
    return next(name for name in BUNDLED if name != network)


@pytest.mark.parametrize("network", BUNDLED)
def test_the_result_has_the_style_and_the_content_by_the_loss_of_another_network(network):
    fields = QUICK | {"network": network} | ({"size": 96} if network != QUICK["network"] else {})
    result = last(StyleTransfer(**fields)).image
    before, wave = fit(CAT, fields["size"], 32), resize(WAVE, result.shape[-2:]).clamp(0, 1)
    style_before, _ = distances(before, other(network))
    _, content_without = distances(wave, other(network))
    style, content = distances(result, other(network))
    assert style < 0.85 * style_before
    assert content < 0.85 * content_without  # Nearer to the cat than the wave itself is.


def test_more_style_strength_means_more_style_and_less_content():
    results = [distances(last(StyleTransfer(**QUICK, style_strength=strength)).image, "vgg19") for strength in (0.1, 1.0, 10.0)]
    styles, contents = zip(*results, strict=True)
    assert styles[0] > styles[1]
    assert contents[0] < contents[1] < contents[2]


@pytest.mark.parametrize(("network", "size"), list(zip(BUNDLED, (96, 160), strict=True)))
def test_one_strength_means_the_same_on_every_network_and_at_every_size(network, size):
    """The relative decrease of the style distance, and the content distance that results."""
    recipe = StyleTransfer(**SHORT | {"network": network, "size": size, "steps": 10}, init="content")
    first, *_, end = recipe.run(load(network), content=CAT, style=WAVE)
    weights = recipe.weights(load(network), "style_layers")
    before, after = (sum(weight * frame.measures[layer] for layer, weight in weights.items()) for frame in (first, end))
    assert 0.05 < after / before < 0.5
    assert 0.2 < end.measures["content"] < 1.2


def test_the_measures_are_the_relative_distances_of_the_frame():
    recipe = StyleTransfer(**SHORT | {"steps": 1}, statistic="gram", init="content")
    frame = last(recipe)
    network, content = load(recipe.network), fit(CAT, 96, 32)  # The first step compares the content itself.
    layers = network.spec.style_layers
    found, wanted = (network.activations(image, layers) for image in (content, recipe.comparison(network).sized(WAVE, 96)))
    assert set(frame.measures) == {*layers, "content"}
    assert frame.measures["content"] == pytest.approx(0, abs=1e-6)
    for layer in layers:
        expected = relative(second_moment(moments(found[layer])), second_moment(moments(wanted[layer])))
        assert frame.measures[layer].item() == pytest.approx(expected, rel=0.02)  # It may have been computed in bfloat16.


@pytest.mark.parametrize(("statistic", "optimiser"), [("gram", "lbfgs"), ("covariance", "lbfgs"), ("gram", "adam")])
def test_identical_content_and_style_is_a_fixed_point(statistic, optimiser, monkeypatch):
    monkeypatch.setattr(OPTIMISERS[optimiser], "jitter", 0)
    image = fit(CAT, 96, 32)
    recipe = StyleTransfer(**SHORT, smoothness=0.0, statistic=statistic, optimiser=optimiser, init="content")
    assert (last(recipe, image, image).image - image).abs().max() < 1e-3


def test_identical_content_and_style_is_a_fixed_point_of_optimal_transport_but_for_rounding():
    image = fit(CAT, 96, 32)
    recipe = StyleTransfer(**SHORT, smoothness=0.0, statistic="wasserstein", init="content")
    result = last(recipe, image, image)
    assert (result.image - image).abs().mean() < 1e-3
    assert result.loss < 1e-3 * next(recipe.run(load(recipe.network), content=image, style=WAVE)).loss


@pytest.mark.parametrize("statistic", STATISTICS)
def test_every_statistic_transfers_the_style(statistic):
    result = last(StyleTransfer(**QUICK | {"statistic": statistic})).image
    assert distances(result, "vgg19")[0] < 0.9 * distances(fit(CAT, 160, 32), "vgg19")[0]


def test_layers_can_be_chosen_and_weighed():
    network = load("vgg19")
    recipe = StyleTransfer(style_layers="relu1_1: 3, relu3_1", content_layers="relu2_2")
    assert recipe.weights(network, "style_layers") == {"relu1_1": 0.75, "relu3_1": 0.25}
    assert set(last(StyleTransfer(**SHORT, style_layers="stem, block2: 0.5")).measures) == {"stem", "block2", "content"}


def test_the_content_is_kept_at_several_depths_so_that_what_is_small_stays():
    """Fine structure as another network sees it, against a deep layer alone."""
    recipe, judge = StyleTransfer(network="vgg19", size=80, scales=1, steps=8, content_strength=2), load("efficientnet_lite0")
    assert recipe.weights(load("vgg19"), "content_layers") == {"relu2_1": 1 / 3, "relu3_1": 1 / 3, "relu4_2": 1 / 3}
    with torch.no_grad():
        kept = judge.activations(fit(CAT, 80, 32), ["block0"])["block0"]
        several, deep = (
            relative(judge.activations(last(recipe.replace(content_layers=layers)).image, ["block0"])["block0"], kept)
            for layers in ("", "relu4_2")
        )
    assert several < 0.95 * deep


def test_the_self_similarity_of_the_content_is_kept_if_asked():
    recipe = StyleTransfer(**SHORT, content_comparison="self-similarity")
    weak, strong = (last(recipe.replace(content_strength=strength)).measures["content"] for strength in (0.01, 3.0))
    assert 0 < strong < 0.7 * weak


@pytest.mark.parametrize(
    "options", [{"style2": TERRACE}, {"mask": True}, {"style2": TERRACE, "mask": True}, {"opacity": True}], ids=str
)
def test_nearest_neighbours_in_regions_mixtures_and_transparent_pictures_lower_the_loss(options):
    options = dict(options)
    if options.pop("opacity", False):
        opaque = resize(half()[:, :1], fit(CAT, 96, 32).shape[-2:]).clamp(0, 1)
        options["opacity"] = {"content": opaque, "style": half()[:, :1]}
    if options.get("mask"):
        options["mask"] = half()
    recipe = StyleTransfer(**SHORT, statistic="neighbours")
    style = resize(WAVE, half().shape[-2:]).clamp(0, 1)
    frames = list(recipe.run(load(recipe.network), content=CAT, style=style, **options))
    assert frames[-1].loss < 0.9 * frames[0].loss
    assert frames[-1].image.isfinite().all()


def test_variants_are_small_and_have_three_strengths_and_three_sizes_of_strokes():
    variants = StyleTransfer(size=640, feather=40).variants(160)
    assert [(one.style_strength, one.style_scale) for one in variants] == [*product((0.3, 1.0, 3.0), (0.5, 1.0, 2.0))]
    assert {(one.size, one.feather, one.steps, one.scales) for one in variants} == {(160, 10, 20, 2)}


# Starting points


def test_without_content_strength_noise_becomes_the_texture_of_the_style():
    result = last(StyleTransfer(**QUICK, content_strength=0, init="noise"))
    assert "content" not in result.measures
    style, content = distances(result.image, "vgg19")
    assert style < 0.85 * distances(fit(CAT, 160, 32), "vgg19")[0]
    assert content > 1


def test_without_style_strength_noise_becomes_the_content():
    recipe = StyleTransfer(**QUICK | {"steps": 20}, style_strength=0, init="noise", content_layers="block1", smoothness=0.1)
    result = last(recipe)
    assert set(result.measures) == {"content"}
    assert distances(result.image, "vgg19")[1] < 0.5


def test_the_start_has_the_colours_of_the_style_and_the_edges_of_the_content():
    style = 0.25 + WAVE / 2  # Little of it is clipped.
    start = recoloured(CAT, [(style, None)], None, None, [1.0])
    assert torch.allclose(start.mean((2, 3)), style.mean((2, 3)), atol=0.01)
    assert torch.allclose(start[0].flatten(1).cov(), style[0].flatten(1).cov(), atol=0.003)
    assert torch.corrcoef(torch.stack([luminance(it).flatten() for it in (start, CAT)]))[0, 1] > 0.95
    first = next(StyleTransfer(**SHORT, style_strength=0.01).run(load(QUICK["network"]), content=CAT, style=style))
    small = first.image.shape[-2:]
    assert (first.image - resize(start, small)).abs().mean() < 0.5 * (first.image - resize(CAT, small)).abs().mean()


def test_each_region_starts_in_the_colours_of_its_style():
    red, blue = (torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 8, 8) for colour in ([1.0, 0, 0], [0, 0, 1.0]))
    styles = [(red, None), (blue, None)]
    left = torch.zeros(1, 1, *CAT.shape[-2:])
    left[..., : CAT.shape[-1] // 2] = 1
    where = torch.cat([left, 1 - left], 1)
    start = recoloured(CAT, styles, where, None, [])
    for part, colour in ((left, red), (1 - left, blue)):
        mean = (part * start).sum((0, 2, 3)) / part.sum()
        assert torch.allclose(mean, colour[0, :, 0, 0], atol=0.05)
    only_right = torch.cat([torch.zeros_like(left), 1 - left], 1)  # An empty region keeps the content, and gives no NaN.
    assert torch.equal((recoloured(CAT, styles, only_right, None, []) * left), CAT * left)
    mixed = recoloured(CAT, styles, None, None, [0.75, 0.25])
    assert torch.allclose(mixed.mean((0, 2, 3)), torch.tensor([0.75, 0, 0.25]), atol=0.05)


def test_a_start_picture_skips_the_scales_up_to_its_size():
    recipe = StyleTransfer(**QUICK | {"size": 256, "scales": 4})
    sizes = [max(size) for size, _ in recipe.schedule(load(QUICK["network"]), (256, 256))]
    assert sizes == [91, 128, 181, 256]
    half = torch.rand(1, 3, 128, 128)
    assert [max(size) for size, _ in recipe.schedule(load(QUICK["network"]), (256, 256), half)] == [181, 256]
    assert [max(size) for size, _ in recipe.schedule(load(QUICK["network"]), (256, 256), resize(half, (512, 512)))] == [256]
    first = next(StyleTransfer(**SHORT).run(load(QUICK["network"]), content=CAT, style=WAVE, start=WAVE))
    assert (first.image - resize(WAVE, first.image.shape[-2:])).abs().mean() < 0.05


def test_without_a_number_of_scales_sizes_double_and_steps_fall_with_pixels():
    def schedule(size, **fields):
        levels = StyleTransfer(network="efficientnet_lite0", **fields).schedule(load("efficientnet_lite0"), (size, size // 2))
        return [(max(level), steps) for level, steps in levels]

    assert schedule(768) == [(192, 24), (384, 12), (768, 6)]
    assert schedule(2048) == [(256, 24), (512, 12), (1024, 6), (2048, 4)]
    assert schedule(1536, steps=2) == [(192, 2), (384, 2), (768, 2), (1536, 2)]
    assert schedule(256) == [(256, 24)]
    assert schedule(384, scales=2) == [(272, 24), (384, 17)]  # What recipes of earlier results say.


def test_a_larger_scale_starts_with_the_detail_of_the_content_that_the_smaller_one_cannot_hold():
    content, small = fit(CAT, 160, 32), fit(CAT, 80, 32)
    recipe = StyleTransfer()
    assert (recipe.with_detail(small, content, content) - content).abs().mean() < 0.001
    assert (resize(small, content.shape[-2:]) - content).abs().mean() > 0.01
    assert torch.equal(recipe.with_detail(WAVE, content, content), resize(WAVE, content.shape[-2:]))


# Several styles, regions, colours


def test_a_blend_is_nearer_to_the_style_with_the_larger_share():
    little, much = (last(StyleTransfer(**QUICK, style_blend=share), style2=TERRACE).image for share in (0.1, 0.9))
    assert distances(little, "vgg19", WAVE)[0] < distances(much, "vgg19", WAVE)[0]
    assert distances(much, "vgg19", TERRACE)[0] < distances(little, "vgg19", TERRACE)[0]


def test_shares_of_styles_change_from_scale_to_scale_and_stay_within_0_and_1():
    recipe = StyleTransfer(blend_change=1)
    assert [recipe.shares(2, progress) for progress in (0, 0.5, 1)] == [[1, 0], [0.5, 0.5], [0, 1]]
    assert [recipe.replace(style_blend=0.8).shares(2, progress)[1] for progress in (0, 1)] == pytest.approx([0.3, 1])
    assert [StyleTransfer(style_blend=0.2).shares(2, progress)[1] for progress in (0, 1)] == pytest.approx([0.2, 0.2])
    assert recipe.shares(1, 0) == [1]
    assert StyleTransfer().shares(4, 0) == [0.25] * 4
    assert StyleTransfer(style_weights="2, 1, 1").shares(3, 1) == [0.5, 0.25, 0.25]
    assert recipe.replace(style_weights="1, 0, 1").shares(3, 1) == [0, 0, 1]
    assert recipe.shares(3, 0) == pytest.approx([5 / 7, 2 / 7, 0])


@pytest.mark.parametrize("statistic", ["neighbours", "covariance"])
def test_a_style_of_weight_0_changes_nothing_and_one_of_weight_1_changes_the_mixture(statistic):
    def loss(styles, **fields):
        recipe = StyleTransfer(**SHORT, statistic=statistic, **fields)
        return next(recipe.run(load(recipe.network), content=CAT, style=WAVE, **styles)).loss.item()

    pair, three = loss({"style2": TERRACE}, style_blend=0.25), {"style2": CAT, "style3": TERRACE}
    assert loss(three, style_weights="3, 0, 1") == pytest.approx(pair, rel=1e-4)
    assert loss(three, style_weights="3, 1, 1") != pytest.approx(pair, rel=1e-2)


def test_three_regions_have_three_styles_the_brightest_the_first():
    recipe = StyleTransfer(**SHORT | {"steps": 1}, feather=0, statistic="gram", style_layers=INPUT, init="content")
    network, content, dark = load(recipe.network), fit(CAT, 96, 32), 0.2 * WAVE
    options = {"regions": areas(RED, WHITE, BLACK), "style2": dark, "style3": TERRACE}
    frame = next(recipe.run(network, content=CAT, style=WAVE, **options))
    expected = sum(
        relative(*(second_moment(moments(image)) for image in (part, recipe.comparison(network).sized(style, 96)))) / 3
        for part, style in zip(content.split(32, 3), (dark, WAVE, TERRACE), strict=True)
    )
    assert frame.measures[INPUT].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("statistic", ["neighbours", "covariance"])
def test_each_scale_has_the_mixture_of_its_share(statistic):
    """The first frames of both scales, against runs with that share throughout: the second goes on from the first's result."""
    recipe = StyleTransfer(**QUICK | {"steps": 2}, statistic=statistic)
    changing = list(recipe.replace(blend_change=1).run(load(recipe.network), content=CAT, style=WAVE, style2=TERRACE))
    coarse = list(recipe.replace(style_blend=0).run(load(recipe.network), content=CAT, style=WAVE, style2=TERRACE))
    fine = next(
        recipe.replace(style_blend=1).run(load(recipe.network), content=CAT, style=WAVE, style2=TERRACE, start=coarse[1].image)
    )
    assert changing[0].loss == coarse[0].loss
    if statistic == "covariance":  # Neighbours are those of the content where a run starts.
        assert changing[2].loss.item() == pytest.approx(fine.loss.item(), rel=1e-3)
    assert changing[2].loss.item() != pytest.approx(coarse[2].loss.item(), rel=1e-2)


def half(value=1.0):
    """A mask that is white on the left."""
    mask = torch.zeros(1, 3, 40, 60)
    mask[..., :30] = value
    return mask


def test_the_style_is_applied_only_inside_the_mask():
    result, content = last(StyleTransfer(**QUICK, feather=0), mask=half()).image, fit(CAT, 160, 32)
    assert torch.equal(result[..., 84:], content[..., 84:])
    assert (result - content)[..., :76].abs().mean() > 0.05
    assert style_of(result[..., :76], "vgg19") < 0.9 * style_of(content[..., :76], "vgg19")


def test_two_styles_are_applied_inside_and_outside_the_mask():
    result = last(StyleTransfer(**QUICK), mask=half(), style2=TERRACE).image
    left, right = result[..., :76], result[..., 84:]
    assert style_of(left, "vgg19", WAVE) < style_of(right, "vgg19", WAVE)
    assert style_of(right, "vgg19", TERRACE) < style_of(left, "vgg19", TERRACE)


def see_through(image, share=0.5):
    """A picture whose right part is transparent, and white underneath."""
    picture = to_picture(image).convert("RGBA")
    picture.paste((255, 255, 255, 0), (round(picture.width * share), 0, picture.width, picture.height))
    return picture


@pytest.mark.parametrize("colours", ["style", "matched"])
def test_only_opaque_positions_of_a_style_enter_its_statistics(colours):
    """Its transparent part is white, and would make the result as light as half of it."""
    recipe = StyleTransfer(**SHORT, colours=colours, content_strength=0.1)
    opaque = run(recipe, content=to_picture(CAT), style=to_picture(WAVE[..., : WAVE.shape[-1] // 2] * 0.4))
    whole = run(recipe, content=to_picture(CAT), style=see_through(WAVE * 0.4))
    flat, part = (np.asarray(picture).astype(float) for picture in (opaque, whole))
    assert np.abs(flat.mean((0, 1)) - part.mean((0, 1))).max() < 6
    assert np.abs(flat.std((0, 1)) - part.std((0, 1))).max() < 6


RED, GREEN, BLUE, WHITE, BLACK = (1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (1.0, 1, 1), (0.0, 0, 0)


def areas(*colours):
    """An image (1, 3, 40, 60) with an area of each colour, from left to right."""
    width = 60 // len(colours)
    return torch.cat([torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 40, width) for colour in colours], 3)


def test_a_region_of_the_content_takes_the_region_of_its_colour_of_the_style():
    """Whatever the order of both: the style is dark on its left, and the content's right has the same colour."""
    style = torch.cat([0.2 * WAVE[..., :300], WAVE[..., 300:600]], 3)
    recipe, left = StyleTransfer(**SHORT, feather=0), 48
    result, swapped = (
        last(recipe, style=style, regions=areas(RED, BLUE), style_regions=areas(*order)).image
        for order in ((BLUE, RED), (RED, BLUE))
    )
    assert result[..., :left].mean() > swapped[..., :left].mean() + 0.1
    assert result[..., left:].mean() < swapped[..., left:].mean() - 0.1


def test_the_distance_in_regions_is_the_mean_over_pixels_of_each_with_the_pixels_of_its_style():
    """Three regions, of which the content has two at once, and a transparent corner: against a loop over pixels."""
    generator = torch.Generator().manual_seed(0)
    content, style = (torch.rand(1, 3, 64, 64, generator=generator) for _ in range(2))
    painted, painted_style = (
        resize(areas(*order), (64, 64)).round().clamp(0, 1) for order in ((RED, GREEN, BLUE), (BLUE, RED, GREEN))
    )
    opaque = torch.ones(1, 1, 64, 64)
    opaque[..., :20, :20] = 0
    recipe = StyleTransfer(**SHORT | {"size": 64, "steps": 1}, feather=0, statistic="gram", style_layers=INPUT, init="content")
    options = {"regions": painted, "style_regions": painted_style, "opacity": {"style": opaque}}
    frame = next(recipe.run(load(recipe.network), content=content, style=style, **options))
    expected = 0.0
    for colour in (RED, GREEN, BLUE):
        products, count = [0.0, 0.0], [0, 0]
        for which, (image, names) in enumerate(((content, painted), (style, painted_style))):
            for row in range(64):
                for column in range(64):
                    if tuple(names[0, :, row, column].tolist()) == colour and not (which and row < 20 and column < 20):
                        pixel = image[0, :, row, column]
                        products[which] += torch.outer(pixel, pixel)
                        count[which] += 1
        expected += count[0] / 64**2 * relative(products[0] / count[0], products[1] / count[1])
    assert frame.measures[INPUT].item() == pytest.approx(expected, rel=1e-4)


def test_regions_without_those_of_the_style_are_a_mask_for_the_styles():
    recipe = StyleTransfer(**SHORT)
    masked = last(recipe, mask=half(), style2=TERRACE).image
    by_colour, swapped = (last(recipe, regions=areas(*order), style2=TERRACE).image for order in ((WHITE, BLACK), (BLACK, WHITE)))
    assert (by_colour - masked).abs().mean() < 0.01
    assert (swapped - masked).abs().mean() > 0.03


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"regions": areas(RED)}, "The image of regions is all red; expected an area of another colour too."),
        ({"regions": areas(RED, GREEN, BLUE), "style2": TERRACE}, "There are 3 regions, .* and 2 styles; expected a style for each"),
        ({"regions": areas(RED, BLUE)}, "There are 2 regions, blue, red, and 1 style; expected a style for each, or style_regions."),
        ({"regions": areas(RED, BLUE), "style2": CAT, "style3": WAVE}, "There are 2 regions, .* and 3 styles; expected a style for each."),
        ({"regions": areas(RED, BLUE), "style_regions": areas(RED, WHITE), "style2": WAVE, "style3": WAVE},
         "The first style has no blue region; expected a further style for each of these, not 2."),
        ({"regions": areas(RED, BLUE), "style_regions": areas(RED, BLUE), "style2": WAVE},
         "The first style has all regions of the content; expected no further style."),
        ({"style2": WAVE, "style3": 0 * WAVE}, "The style3 is black everywhere; choose a brighter picture."),
        ({"regions": areas(RED, BLUE), "style_regions": areas(RED, GREEN)}, "The style has no blue region; its regions are green, red."),
        ({"regions": areas(WHITE, BLACK), "style": half(), "style_regions": areas(WHITE, BLACK)},
         "The style is black or transparent in its black region; expected"),
    ],
)  # fmt: skip
def test_regions_that_do_not_match_are_refused_with_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        last(StyleTransfer(**SHORT), **options)


def test_a_list_of_styles_is_one_style_a_role():
    assert StyleTransfer.by_role({"style": ["a", "b", "c"], "style2": None}) == {"style": "a", "style2": "b", "style3": "c"}
    assert StyleTransfer.by_role({"style": ("a",), "style2": "b"}) == {"style": "a", "style2": "b"}
    recipe = StyleTransfer(style_weights="1, 2", style_blend=0.1)
    recipe.check_unused(["content", "style"])  # What only tunes a mixture is no error without one.


@pytest.mark.parametrize("statistic", ["neighbours", "covariance"])
def test_a_tiny_region_and_an_even_one_and_a_narrow_style_give_numbers(statistic):
    regions, style = areas(RED, BLUE), torch.full((1, 3, 40, 60), 0.6)
    regions[..., 2:] = torch.tensor(BLUE).view(1, 3, 1, 1)  # Two columns of 60: less than a cell at this size.
    style[..., :20] = resize(WAVE, (40, 20)).clamp(0, 1)
    options = {"regions": regions, "style": style, "style_regions": areas(RED, BLUE)}
    recipe = StyleTransfer(**SHORT, statistic=statistic)
    few = {"style2": torch.full((1, 3, 7, 900), 0.4), "style3": resize(WAVE, (16, 400)).clamp(0, 1)}  # Even, and narrow.
    assert last(recipe.replace(steps=1), **few).image.isfinite().all()
    frames = list(recipe.run(load(SHORT["network"]), content=CAT, **options))
    assert all(frame.image.isfinite().all() and frame.loss.isfinite() for frame in frames)
    assert frames[-1].loss < frames[0].loss


def test_the_transparent_part_of_an_image_of_regions_is_black():
    regions = to_picture(areas(WHITE, WHITE)).convert("RGBA")
    regions.paste((255, 255, 255, 0), (30, 0, 60, 40))
    recipe = StyleTransfer(**SHORT)
    transparent, black = (
        run(recipe, content=to_picture(CAT), style=[to_picture(WAVE), to_picture(TERRACE)], regions=painted)
        for painted in (regions, to_picture(areas(WHITE, BLACK)))
    )
    assert np.array_equal(np.asarray(transparent), np.asarray(black))


def chroma(image):
    """What is left of the colours when brightness is taken away."""
    return image - (image * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def test_colours_of_the_content_are_kept_exactly_if_asked():
    content = fit(CAT, 160, 32)
    result = last(StyleTransfer(**QUICK, colours="content")).image
    inside = ((result > 0.01) & (result < 0.99)).all(1, keepdim=True)
    assert inside.float().mean() > 0.8
    assert ((chroma(result) - chroma(content)).abs() * inside).max() < 1e-3
    assert (result - content).mean(1).abs().mean() > 0.02


def test_matched_colours_are_nearer_to_the_contents():
    means = [last(StyleTransfer(**QUICK, colours=colours)).image.mean((2, 3)) for colours in ("style", "matched")]
    away = [(mean - CAT.mean((2, 3))).abs().sum() for mean in means]
    assert away[1] < 0.5 * away[0]


@pytest.mark.parametrize("colours", ["matched", "content"])
def test_grey_pictures_keep_their_colours_too(colours):
    grey = CAT.mean(1, keepdim=True).expand_as(CAT)
    result = last(StyleTransfer(**SHORT, colours=colours), content=grey).image
    assert result.isfinite().all()
    assert result.std(1).mean() < 0.05
    assert last(StyleTransfer(**SHORT, colours=colours), style=grey).image.isfinite().all()


# Steering


def test_new_settings_take_effect_at_the_next_step():
    recipe = StyleTransfer(**SHORT)
    frames = recipe.run(load(recipe.network), content=CAT, style=WAVE)
    first = next(frames)
    second = frames.send(recipe.replace(style_strength=0.0))
    assert set(first.measures) == {*NETWORKS[recipe.network].style_layers, "content"}
    assert set(second.measures) == {"content"}
    third = frames.send(recipe.replace(smoothness=10.0))
    assert third.loss > first.loss
    assert set(next(frames).measures) == set(first.measures)


@pytest.mark.parametrize(("optimiser", "same"), [("adam", True), ("lbfgs", False)])
def test_steering_keeps_the_moments_of_adam_and_drops_the_history_of_lbfgs(optimiser, same):
    recipe = StyleTransfer(**SHORT | {"steps": 8, "optimiser": optimiser})
    plain, steered = (recipe.run(load(recipe.network), content=CAT, style=WAVE) for _ in range(2))
    for _ in range(4):
        next(plain), next(steered)
    next(plain)
    steered.send(recipe.replace(seed=1))  # Another recipe with the same loss.
    *_, unsteered = plain
    *_, after = steered
    assert torch.equal(unsteered.image, after.image) == same


# Large pictures


def test_with_little_memory_smaller_tiles_give_the_same_result_and_the_stage_says_so(monkeypatch):
    def on_a_small_device(wanted, image, settings, side):
        if side > 150:
            raise torch.OutOfMemoryError
        return compare(wanted, image, settings, side)

    recipe = StyleTransfer(network="efficientnet_lite0", size=160, scales=1, steps=2)
    whole, compare = last(recipe), style_target.Target.compare
    monkeypatch.setattr(style_target.Target, "compare", on_a_small_device)
    tiled = last(recipe)
    assert whole.stage == "scale 1 of 1"
    assert tiled.stage == "scale 1 of 1, in smaller tiles, since memory is short"
    assert tiled.loss.item() == pytest.approx(whole.loss.item(), rel=1e-3)


# What else holds


def test_more_smoothness_means_less_variation():
    rough, smooth = (last(StyleTransfer(**QUICK, smoothness=s)).image for s in (0.0, 5.0))
    assert smooth.diff(dim=-1).abs().mean() < 0.9 * rough.diff(dim=-1).abs().mean()


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("value", [0.1, 1.0])
def test_a_flat_style_gives_a_picture_and_no_nan(statistic, value):
    result = last(StyleTransfer(**SHORT, statistic=statistic), style=torch.full((1, 3, 64, 64), value)).image
    assert result.isfinite().all()
    assert result.std() > 0.02  # The cat is still there.


def test_a_black_style_is_refused_in_one_sentence():
    with pytest.raises(InputError, match="The style is black everywhere; choose a brighter picture"):
        last(StyleTransfer(**SHORT), style=torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("network", "shape"),
    [("vgg19", (1, 200)), ("efficientnet_lite0", (200, 1)), ("vgg19", (20, 20)), ("efficientnet_lite0", (16, 700))],
)
def test_a_style_narrower_than_the_network_can_see_gives_a_picture(network, shape):
    style = resize(WAVE, shape).clamp(0, 1)
    result = last(StyleTransfer(**SHORT | {"network": network, "steps": 2, "size": 64}), style=style).image
    assert result.isfinite().all()
