"""The statistics of a style against slow, obvious versions, their gradients against finite differences."""

import pytest
import torch

from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.optimise import style_statistics
from featviz.optimise.scaling import fit
from featviz.optimise.style_statistics import (
    STATISTICS,
    blend,
    covariance,
    covariance_distance,
    gram_distance,
    mean,
    moments,
    second_moment,
    trace_of_root,
    wasserstein_distance,
)
from featviz.recipes import presets

CAT, WAVE = (to_tensor(open_picture(presets.FOLDER / f"{name}.jpg")) for name in ("cat", "great_wave"))
generator = torch.Generator().manual_seed(0)
HERE, THERE = (torch.randn(1, 4, height, 6, dtype=torch.float64, generator=generator) for height in (5, 7))
WHERE = torch.rand(1, 1, 5, 6, dtype=torch.float64, generator=generator)


def slow_moments(activations, where):
    """(total weight, mean, mean product), position by position."""
    _, channels, height, width = activations.shape
    total, first, second = 0.0, torch.zeros(channels).double(), torch.zeros(channels, channels).double()
    for y in range(height):
        for x in range(width):
            weight = where[0, 0, y, x]
            total += weight
            first += weight * activations[0, :, y, x]
            for i in range(channels):
                for j in range(channels):
                    second[i, j] += weight * activations[0, i, y, x] * activations[0, j, y, x]
    return total, first / total, second / total


def root(matrix):
    """The symmetric square root by Newton's iteration."""
    found = torch.eye(len(matrix), dtype=matrix.dtype)
    for _ in range(60):
        found = (found + torch.linalg.solve(found, matrix)) / 2
    return found


@pytest.mark.parametrize("where", [None, WHERE])
def test_moments_are_what_position_by_position_gives(where):
    sums = moments(HERE, where)
    total, first, second = slow_moments(HERE, torch.ones_like(WHERE) if where is None else where)
    assert sums[0, 0].item() == pytest.approx(float(total))
    assert torch.allclose(mean(sums), first)
    assert torch.allclose(second_moment(sums), second)
    assert torch.allclose(covariance(sums), second - first[:, None] * first[None, :])


@pytest.mark.parametrize("where", [None, WHERE])
def test_moments_of_bfloat16_by_blocks_are_sums_in_float32_with_the_derivative_in_the_maps_own_type_and_format(
    where, monkeypatch
):
    maps = HERE.bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    wide = maps.detach().double().requires_grad_()
    monkeypatch.setattr(style_statistics, "BLOCK", 7 * 4)  # 30 positions of 4 channels: four blocks, and two positions more.
    sums, expected = moments(maps, where if where is None else where.float()), moments(wide, where)
    assert sums.dtype == torch.float32
    assert torch.allclose(sums.double(), expected, rtol=1e-5)
    weights = torch.randn(5, 5, generator=generator)
    (gradient,), (slow,) = (
        torch.autograd.grad((sums * weights).sum(), maps),
        torch.autograd.grad((expected * weights).sum(), wide),
    )
    assert torch.allclose(gradient.double(), slow, rtol=2**-7, atol=1e-2)
    assert gradient.dtype == torch.bfloat16
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_a_style_blended_with_itself_is_itself_and_styles_meet_in_between():
    one, other, third = moments(HERE), moments(THERE), moments(HERE.exp())
    assert torch.allclose(second_moment(blend([one, one], [0.7, 0.3])), second_moment(one))
    expected = 0.5 * second_moment(one) + 0.25 * second_moment(other) + 0.25 * second_moment(third)
    assert torch.allclose(second_moment(blend([one, other, third], [0.5, 0.25, 0.25])), expected)
    assert torch.allclose(mean(blend([one, other], [0.0, 1.0])), mean(other))


def test_distances_equal_their_formulas_written_out():
    one, other = moments(HERE), moments(THERE)
    energy = (second_moment(other) ** 2).sum()
    assert gram_distance(other)(one).item() == pytest.approx(
        (((second_moment(one) - second_moment(other)) ** 2).sum() / energy).item()
    )
    means = 4 * ((mean(one) - mean(other)) ** 2).sum() / second_moment(other).trace()
    spread = ((covariance(one) - covariance(other)) ** 2).sum() / energy
    assert covariance_distance(other)(one).item() == pytest.approx((means + spread).item())


def test_the_wasserstein_distance_is_the_closed_form_with_roots_by_another_method():
    one, other = moments(HERE), moments(THERE)
    here, there = covariance(one), covariance(other)
    half = root(there)
    squared = ((mean(one) - mean(other)) ** 2).sum() + (here + there - 2 * root(half @ here @ half)).trace()
    assert wasserstein_distance(other)(one).item() == pytest.approx((4 * squared / second_moment(other).trace()).item(), rel=2e-3)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_distance_is_zero_at_its_target_grows_away_from_it_and_does_not_depend_on_scale(statistic):
    distance = STATISTICS[statistic](moments(THERE))
    assert distance(moments(THERE)).item() == pytest.approx(0, abs=1e-3)
    near, far = (distance(moments(THERE + change * torch.randn_like(THERE))) for change in (0.1, 1.0))
    assert 0 < near < far
    scaled = STATISTICS[statistic](moments(1000 * THERE))
    assert scaled(moments(1000 * HERE)).item() == pytest.approx(distance(moments(HERE)).item(), rel=1e-6)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_small_difference_weighs_alike_in_every_statistic(statistic):
    """1 % brighter activations: ‖M − M*‖² / ‖M*‖² is (1.01² − 1)², and so are the others for features without spread."""
    flat = torch.ones(1, 1, 4, 4).double()
    assert STATISTICS[statistic](moments(flat))(moments(1.01 * flat)).item() == pytest.approx(4e-4, rel=0.02)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_gradients_equal_finite_differences_through_the_matrix_root_too(statistic):
    distance = STATISTICS[statistic](moments(THERE))
    assert torch.autograd.gradcheck(lambda features: distance(moments(features, WHERE)), HERE.clone().requires_grad_())


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_targets_without_any_variance_and_regions_without_positions_give_no_nan(statistic, value):
    flat = torch.full((1, 4, 3, 3), value)
    for there, here, where in ((flat, HERE.float(), None), (HERE.float(), flat, None), (flat, flat, torch.zeros(1, 1, 3, 3))):
        features = here.clone().requires_grad_()
        found = STATISTICS[statistic](moments(there))(moments(features, where))
        (gradient,) = torch.autograd.grad(found, features)
        assert found.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("layer", ["relu1_1", "relu3_1", "relu5_1"])
def test_the_wasserstein_distance_in_float32_agrees_with_float64(layer):
    """On real feature maps, fewer positions than channels among them, value and gradient."""
    with torch.no_grad():
        there, here = (load("vgg19").activations(fit(picture, 128, 32), [layer])[layer] for picture in (WAVE, CAT))
    results = []
    for kind in (torch.float32, torch.float64):
        features = here.to(kind).requires_grad_()
        found = wasserstein_distance(moments(there.to(kind)))(moments(features))
        results.append((found.item(), torch.autograd.grad(found, features)[0].double()))
    (value, gradient), (exact_value, exact_gradient) = results
    assert value == pytest.approx(exact_value, rel=5e-4)
    assert (gradient - exact_gradient).norm() < 0.01 * exact_gradient.norm()


# On a GPU roots are found by an iteration in float32, on a CPU by eigenvalues in float64.


@pytest.mark.parametrize("layer", ["relu1_1", "relu3_1", "relu5_1"])
def test_the_iterated_root_agrees_with_eigenvalues_in_float64(layer, monkeypatch):
    """On real feature maps, fewer positions than channels among them, value and gradient."""
    network, results = load("vgg19"), {}
    with torch.no_grad():
        there, here = (network.activations(fit(picture, 128, 32), [layer])[layer] for picture in (WAVE, CAT))
    for method in ("cpu", "none"):
        monkeypatch.setattr(style_statistics, "EIGENVALUES", {method})
        features = here.clone().requires_grad_()
        found = wasserstein_distance(moments(there))(moments(features))
        results[method] = found.item(), torch.autograd.grad(found, features)[0]
    (value, gradient), (other_value, other_gradient) = results.values()
    assert other_value == pytest.approx(value, rel=2e-3)
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), other_gradient.flatten(), dim=0) > 0.999
    assert (other_gradient.norm() / gradient.norm()).item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_the_iterated_root_gives_no_nan_without_variance_or_positions(value, monkeypatch):
    monkeypatch.setattr(style_statistics, "EIGENVALUES", set())
    test_targets_without_any_variance_and_regions_without_positions_give_no_nan("wasserstein", value)


def test_the_trace_of_a_root_is_the_sum_of_roots_without_the_offset(monkeypatch):
    little = torch.tensor(1e-8, dtype=torch.float64)
    diagonal = torch.diag(torch.tensor([4.0, 9.0, 0.25], dtype=torch.float64))
    for methods in ({"cpu"}, set()):
        monkeypatch.setattr(style_statistics, "EIGENVALUES", methods)
        root, derivative = trace_of_root(diagonal, little)
        assert root.item() == pytest.approx(5.5, abs=5e-4)
        assert torch.allclose(derivative, torch.diag(torch.tensor([1 / 4, 1 / 6, 1.0])).double(), atol=1e-4)
        assert trace_of_root(0 * diagonal, little)[0].item() == pytest.approx(0, abs=1e-6)
