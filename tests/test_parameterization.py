import pytest
import torch

from featviz.parameterization import Average, pyramid


def test_the_pyramid_ends_at_the_size_and_shrinks_by_the_ratio():
    assert pyramid((341, 512), 4, 1.4, 32) == [(124, 187), (174, 261), (244, 366), (341, 512)]


def test_levels_too_small_for_the_network_are_left_out_but_never_the_last():
    assert pyramid((100, 400), 10, 2.0, 32) == [(50, 200), (100, 400)]
    assert pyramid((20, 20), 3, 2.0, 32) == [(20, 20)]


def test_the_average_of_a_constant_is_that_constant_from_the_first_step():
    average = Average(0.9)
    assert all(torch.allclose(average.update(torch.full((3,), 0.7)), torch.tensor(0.7)) for _ in range(5))


def test_the_average_weighs_the_past_exponentially():
    values = torch.rand(6, dtype=torch.float64)
    average = Average(0.8)
    for value in values:
        result = average.update(value)
    weights = torch.tensor([0.8**age for age in range(5, -1, -1)], dtype=torch.float64)
    assert result.item() == pytest.approx(((weights * values).sum() / weights.sum()).item())
