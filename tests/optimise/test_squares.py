import pytest
import torch

from featviz.optimise import squares
from featviz.optimise.squares import energy, squared_distance


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Two rows of the maps of 3 channels and 5 columns."""
    monkeypatch.setattr(squares, "BLOCK", 2 * 3 * 5)


def maps(seed, dtype=torch.float64):
    return torch.randn(1, 3, 7, 5, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("weights", [None, torch.rand(1, 1, 7, 5, dtype=torch.float64)], ids=["even", "weighed"])
def test_the_distance_is_the_weighted_sum_of_squares_and_its_gradient_that_of_finite_differences(weights):
    values, target = maps(0).to(memory_format=torch.channels_last).requires_grad_(), maps(1)
    expected = ((values - target) ** 2 * (1 if weights is None else weights)).sum()
    assert squared_distance(values, target, weights).item() == pytest.approx(expected.item())
    assert energy(target, weights).item() == pytest.approx((target**2 * (1 if weights is None else weights)).sum().item())
    assert torch.autograd.gradcheck(lambda maps: squared_distance(maps, target, weights), values)


def test_bfloat16_is_subtracted_and_summed_in_float32():
    values, target = (maps(seed, torch.float32).bfloat16() for seed in (0, 1))
    values.requires_grad_()
    found = squared_distance(values, target)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx((values.double() - target.double()).square().sum().item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(found, values)
    assert torch.equal(gradient, (2 * (values.float() - target.float())).bfloat16())
