"""DeepDream on the bundled networks: what the taught loop promises."""

import copy

import pytest
import torch

from benchmarks.cases import exact
from featviz.errors import FieldError, InputError
from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.networks.network import Network
from featviz.networks.table import NETWORKS, class_names, split
from featviz.optimise import tiles
from featviz.optimise.gradients import AUTO, SHAPERS, blur, luminance, soften
from featviz.optimise.objectives import energy, guided_by_match
from featviz.optimise.scaling import fit, resize
from featviz.optimise.tiles import grid
from featviz.optimise.transforms import Surround
from featviz.recipes import presets
from featviz.recipes.deepdream import DeepDream, ascent
from featviz.recipes.deepdream_zoom import DeepDreamZoom

MOUNTAIN = to_tensor(open_picture(presets.FOLDER / "mountain.jpg"))
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
    network = Network(network.spec, copy.deepcopy(network.module).double())
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


def test_the_gradient_is_shown_as_it_is_added_where_asked_for():
    """Inside the mask, and in the size of the picture also at octaves above it."""
    network, mask = load("efficientnet_lite0"), torch.zeros(1, 3, 64, 96)
    mask[..., 48:] = 1
    recipe = DeepDream(**QUICK | {"strength": 2.0, "octaves": 1, "show_gradient": True, "feather": 0})
    image = 0.25 + 0.5 * fit(MOUNTAIN, 128, 32)
    frame = next(recipe.run(network, image=image, mask=mask))
    assert image + 2 / 255 * frame.gradient == pytest.approx(frame.image, abs=1e-6)
    assert frame.gradient[..., :60].abs().max() == 0
    assert frame.gradient[..., 68:].abs().mean() == pytest.approx(1, rel=0.3)
    above = next(recipe.replace(octaves_above=1).run(network, image=image))
    assert above.gradient.shape == above.image.shape == image.shape
    assert next(recipe.replace(show_gradient=False).run(network, image=image)).gradient is None


def test_every_frame_stays_in_range_and_counts_steps_stages_and_work():
    frames = list(DeepDream(**QUICK | {"strength": 10.0}).run(load("efficientnet_lite0"), image=MOUNTAIN))
    assert [frame.step for frame in frames] == [1, 2, 3, 4, 5, 6]
    assert {frame.steps for frame in frames} == {6}
    assert [frame.stage for frame in frames] == ["octave 1 of 2"] * 3 + ["octave 2 of 2"] * 3
    assert [frame.work for frame in frames] == sorted(frame.work for frame in frames)
    first, second = ((height + 32) * (width + 32) for height, width in ((53, 80), (85, 128)))  # With what surrounds them.
    assert frames[2].work == pytest.approx(first / (first + second))
    assert frames[-1].work == 1
    assert all(0 <= frame.image.min() and frame.image.max() <= 1 for frame in frames)
    assert not any(frame.image.requires_grad for frame in frames)


def sky(size, seed):
    """Return a cloudy sky (1, 3, H, W) of (height, width). It is cut from a larger sky, so opposite borders differ."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    frequency = torch.hypot(torch.fft.fftfreq(3 * height)[:, None], torch.fft.rfftfreq(3 * width)).clamp_min(1 / (3 * width))
    noise = torch.fft.rfft2(torch.randn(3 * height, 3 * width, generator=generator))
    clouds = torch.fft.irfft2(noise / frequency**2, s=(3 * height, 3 * width))[height : 2 * height, width : 2 * width]
    return (torch.tensor([0.45, 0.55, 0.7]).view(1, 3, 1, 1) + 0.12 * (clouds - clouds.mean()) / clouds.std()).clamp(0, 1)


def border_lines(image, width=8):
    """The energy of straight lines along the borders, at most `width` pixels away, relative to that of all fine structure.

    About 1 for white noise, and the length of a side for a single line.
    """
    brightness = image.mean(1, keepdim=True)
    fine = (brightness - blur(brightness, 2.0))[0, 0]
    bands = [fine[:width], fine[-width:], fine.T[:width], fine.T[-width:]]
    return sum(band.shape[1] * band.mean(1).square().mean().item() for band in bands) / len(bands) / fine.square().mean().item()


def test_a_dream_of_a_sky_has_no_lines_along_the_borders():
    """Rolled borders gave two to ten times the lines of the picture itself."""
    dreamt, own = 0.0, 0.0
    for seed in (0, 2):
        picture = sky((96, 128), seed)
        recipe = DeepDream(layer="vgg19/relu2_2", size=128, octaves=2, octave_scale=1.5, steps=4, strength=2.5, seed=seed)
        dreamt, own = dreamt + border_lines(last(recipe, picture).image - picture), own + border_lines(picture)
    assert dreamt < 0.5 * own


def test_octaves_too_small_for_the_network_are_left_out_and_a_black_picture_gives_no_nan():
    frame = last(DeepDream(**QUICK | {"octaves": 10, "size": 80, "steps": 1}), torch.zeros(1, 3, 53, 80))
    assert frame.stage == "octave 2 of 2"  # 80×53, 53×36, and 36×24 would be too small.
    assert frame.image.isfinite().all()
    assert frame.image.max() > 0


# What to amplify


def energies(image, layers):
    network = load("efficientnet_lite0")
    with torch.no_grad():
        return {layer: value.square().sum().item() / 2 for layer, value in network.activations(image, layers).items()}


def test_a_class_is_dreamt_until_the_classifier_names_it():
    network, index = load("efficientnet_lite0"), class_names().index("hummingbird")
    recipe = DeepDream(layer="efficientnet_lite0/block9", class_name="Hummingbird", size=224, octaves=2, steps=16)
    before = network.logits(fit(MOUNTAIN, 224, 32)).softmax(1)[0, index]
    after = network.logits(last(recipe).image).softmax(1)[0, index]
    assert before < 0.01
    assert after > 0.5


def test_channels_are_excited_and_not_the_rest():
    network = load("efficientnet_lite0")
    image = fit(MOUNTAIN, 128, 32)

    def share(picture):
        squares = network.activations(picture, ["block9"])["block9"].square().sum((0, 2, 3))
        return (squares[[5, 17]].sum() / squares.sum()).item()

    assert share(last(DeepDream(**QUICK, channels="5, 17")).image) > 1.3 * share(image)


def test_several_layers_are_balanced_by_their_norms_so_that_half_means_half():
    """At the start of an octave each layer's gradient is its activations, divided by their norm, times its weight."""
    network, image = load("efficientnet_lite0"), fit(MOUNTAIN, 96, 32)
    recipe = DeepDream(**QUICK | {"layer": "efficientnet_lite0/block3"}, more_layers="block9: 0.5")
    activations = {layer: value.requires_grad_() for layer, value in network.activations(image, ["block3", "block9"]).items()}
    value = recipe.octave_objective(network, image)(activations)
    norms = [gradient.norm().item() for gradient in torch.autograd.grad(value, list(activations.values()))]
    assert norms == pytest.approx([1.0, 0.5], rel=1e-4)


@pytest.mark.parametrize("by", ["match", "channels"])
def test_a_guide_moves_the_layers_statistics_towards_its_own(by):
    """A cat moves them more towards a cat than a wave does."""
    network = load("efficientnet_lite0")
    cat, wave = (to_tensor(open_picture(presets.FOLDER / name)) for name in ("cat.jpg", "great_wave.jpg"))
    recipe = DeepDream(**QUICK | {"steps": 10}, guide_by=by)

    def profile(image):
        return network.activations(image, ["block9"])["block9"].square().mean((0, 2, 3)).sqrt()

    def likeness(guide):
        *_, frame = recipe.run(network, image=MOUNTAIN, guide=guide)
        return torch.cosine_similarity(profile(frame.image), profile(fit(cat, 128, 32)), dim=0).item()

    assert likeness(cat) > likeness(wave) + 0.001


@pytest.mark.parametrize("layer", ["vgg19/relu1_1", "efficientnet_lite0/block2"])
def test_a_guide_s_features_are_the_same_by_tiles(layer, monkeypatch):
    """The objective of a guide that is looked at by tiles, against the slow version: all of it at once."""
    recipe, network = DeepDream(**QUICK | {"layer": layer, "size": 288}), exact(split(layer)[0])
    name, image = split(layer)[1], fit(MOUNTAIN, 64, 32)
    features = network.activations(fit(MOUNTAIN, 288, 32), [name])[name]
    slow = guided_by_match(name, features) * (1 / features.norm().item())
    monkeypatch.setattr(tiles, "largest", lambda *_, **__: 128)
    tiled = recipe.fixed_objective(network, image, fit(MOUNTAIN, 288, 32))
    values, gradients = zip(*(ascent(network, objective, image, 999) for objective in (slow, tiled)), strict=True)
    assert values[1].item() == pytest.approx(values[0].item(), rel=1e-5)
    assert torch.allclose(*gradients, atol=1e-4 * gradients[0].abs().max())


@pytest.mark.parametrize("kind", [DeepDream, DeepDreamZoom])
def test_a_guide_s_features_are_computed_once_a_run(kind, monkeypatch):
    sides, activations = [], Network.activations

    def seen(self, image, *arguments, **options):
        sides.append(max(image.shape))
        return activations(self, image, *arguments, **options)

    monkeypatch.setattr(Network, "activations", seen)
    fields = {"seconds": 0.2, "fps": 10} if kind is DeepDreamZoom else {}
    recipe = kind(**QUICK | {"steps": 1, "octaves": 2, "size": 96} | fields)
    frames = list(recipe.run(load("efficientnet_lite0"), image=MOUNTAIN, guide=MOUNTAIN[..., :80, :80]))
    assert len(frames) == (4 if kind is DeepDreamZoom else 2)
    assert sides.count(80) == 1


def test_a_channel_that_does_not_exist_and_an_empty_mask_are_refused_before_the_first_step():
    network = load("efficientnet_lite0")
    with pytest.raises(FieldError, match="EfficientNet-Lite0 block9 has no channel 112; it has 0 to 111"):
        next(DeepDream(**QUICK, channels="112").run(network, image=MOUNTAIN))
    with pytest.raises(InputError, match="The mask is empty: paint white where it shall apply"):
        next(DeepDream(**QUICK).run(network, image=MOUNTAIN, mask=torch.zeros(1, 3, 50, 50)))


# Where


def half(size=(85, 128)):
    """A mask that lets the dream be on the left."""
    mask = torch.zeros(1, 3, *size)
    mask[..., : size[1] // 2] = 1
    return mask


@pytest.mark.parametrize("fields", [{}, {"detail": False}, {"octaves_above": 1}, {"gradient": "gaussian"}])
def test_pixels_outside_the_mask_do_not_change(fields):
    recipe = DeepDream(**QUICK | {"steps": 2} | fields, feather=9)
    *_, frame = recipe.run(load("efficientnet_lite0"), image=MOUNTAIN, mask=half())
    original = fit(MOUNTAIN, 128, 32)
    assert frame.image.shape == original.shape
    assert (frame.image - original)[..., 64 + 9 :].abs().max() < (0.5 / 255 if "octaves_above" not in fields else 0.1)
    assert (frame.image - original)[..., :55].abs().mean() > 2 / 255


def test_the_masks_edge_is_soft():
    mask = soften(resize(half(), (85, 128)), 9)
    assert mask.shape == (1, 1, 85, 128)
    profile = mask[0, 0, 40]
    assert profile[50] > 0.999
    assert profile[78] == 0
    assert 0.3 < profile[63] < 0.7
    assert (profile.diff() < 1e-6).all()


def test_a_second_layer_is_amplified_outside_the_mask():
    network, fields = load("efficientnet_lite0"), QUICK | {"layer": "efficientnet_lite0/block9"}
    *_, both = DeepDream(**fields, outside="efficientnet_lite0/block2").run(network, image=MOUNTAIN, mask=half())
    left, right = both.image[..., :64], both.image[..., 64:]
    plain = fit(MOUNTAIN, 128, 32)
    deep, shallow = (
        [energies(part, [layer])[layer] for part in (left, plain[..., :64], right, plain[..., 64:])]
        for layer in ("block9", "block2")
    )
    assert deep[0] > 1.1 * deep[1]
    assert shallow[2] > 1.1 * shallow[3]


# Octaves, gradients and tiles


def test_octaves_above_the_result_are_larger_and_the_result_has_its_own_size():
    assert last(DeepDream(**QUICK | {"steps": 1, "octaves": 1}, full_size=True), MOUNTAIN[..., :90, :150]).image.shape[2:] == (
        90,
        150,
    )
    recipe = DeepDream(**QUICK | {"octaves": 3, "steps": 1}, octaves_above=1)
    frames = list(recipe.run(load("efficientnet_lite0"), image=MOUNTAIN))
    assert [tuple(frame.image.shape[-2:]) for frame in frames] == [(54, 80), (85, 128), (85, 128)]
    assert frames[-1].work == 1
    below = last(DeepDream(**QUICK | {"octaves": 2, "steps": 1})).image
    assert (frames[-1].image - below).abs().mean() > 1 / 255


def test_octaves_keep_the_sharp_detail_of_the_picture_if_asked():
    """Without re-injection the fine texture is lost in the small octave."""

    def fine(image):
        return (image - torch.nn.functional.avg_pool2d(image, 5, 1, 2, count_include_pad=False)).flatten()

    with_detail, without = (last(DeepDream(**QUICK | {"strength": 0.1}, detail=detail)).image for detail in (True, False))
    original = fit(MOUNTAIN, 128, 32)
    assert torch.corrcoef(torch.stack([fine(original), fine(with_detail)]))[0, 1] > 0.95
    assert (without - original).abs().mean() > 3 * (with_detail - original).abs().mean()


def test_a_network_dreams_with_its_own_shape_of_gradient_unless_the_user_chooses():
    assert all(spec.gradient in SHAPERS for spec in NETWORKS.values())
    auto, chosen, plain = (last(DeepDream(**QUICK, gradient=name)).image for name in (AUTO, "soft_colours", "plain"))
    assert torch.equal(auto, chosen)
    assert not torch.equal(auto, plain)


def test_efficientnets_dream_has_no_coloured_grain():
    """Fine colour, relative to fine brightness, is less than in the picture itself. With a plain gradient it is far more."""

    def grain(picture):
        fine = picture - blur(picture, 1.5)
        brightness = luminance(fine)
        return ((fine - brightness).square().mean() / brightness.square().mean()).sqrt().item()

    original = fit(MOUNTAIN, 128, 32)
    ours, plain = (grain(last(DeepDream(**QUICK | fields)).image - original) for fields in ({}, {"gradient": "plain"}))
    assert ours < grain(original) < plain / 2


def test_keeping_colours_changes_brightness_only():
    image = 0.25 + 0.5 * fit(MOUNTAIN, 128, 32)
    recipe = DeepDream(**QUICK | {"octaves": 1, "strength": 1.0}, keep_colours=True)
    change = last(recipe, image).image - image
    assert change.abs().mean() > 0.5 / 255
    assert (change - change.mean(1, keepdim=True)).abs().max() < 1e-6


def test_tiled_and_whole_gradients_agree_away_from_the_borders_of_tiles():
    network, image = load("efficientnet_lite0"), fit(MOUNTAIN, 288, 32)[..., :192, :256]
    objective = energy("block2")
    value, whole = ascent(network, objective, image, 999)
    tiled_value, tiled = ascent(network, objective, image, 128)
    away = torch.zeros(192, 256, dtype=torch.bool)
    for tile in grid((192, 256), 128):
        away[tuple(slice(part.start + 4, part.stop - 4) for part in tile.core)] = True
    assert (whole - tiled)[..., away].abs().max() < 1e-4 * whole.abs().max()
    assert tiled_value.item() == pytest.approx(value.item(), rel=0.1)


def test_tiles_leave_no_seams(monkeypatch):
    """Neighbours across a former border of a tile differ as much as they do in a run without tiles, within 3 %."""
    image = fit(MOUNTAIN[..., :400, :400], 288, 32)
    recipe = DeepDream(layer="efficientnet_lite0/block4", size=288, octaves=1, steps=8)
    starts, random = [], Surround.random

    def surround(least, jitter, generator):
        drawn = random(least, jitter, generator)
        (shift,) = torch.rand(2, generator=generator.clone_state())[None].tolist()
        starts.append([tile.core[1].start - drawn.left for tile in grid(recipe.surrounded((288, 288)), 128, shift=shift)])
        return drawn

    monkeypatch.setattr("featviz.recipes.deepdream.Surround.random", surround)

    def roughness(side):
        """Mean absolute difference of the change across former borders, against elsewhere."""
        starts.clear()
        monkeypatch.setattr(tiles, "largest", lambda *_, **__: side)
        across = (last(recipe, image).image - image).diff(dim=-1).abs().mean((0, 1, 2))
        borders = torch.zeros(288)
        for start in (start for step in starts for start in step):
            borders[start] += 0 < start < 288
        return ((across * borders[1:]).sum() / borders[1:].sum() / across.mean()).item()

    assert roughness(128) == pytest.approx(roughness(999), rel=0.03)
