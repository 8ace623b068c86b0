"""float64 only where a device has it."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from featviz.optimise import colours, precision, style_statistics
from featviz.optimise.precision import exact
from featviz.optimise.style_statistics import STATISTICS, moments

GPU = "cuda"


class AppleGPU(TorchDispatchMode):
    """What Apple's GPU cannot do is an error: float64, and eigenvalues."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        there = [one for one in tree_leaves((args, kwargs, result)) if isinstance(one, torch.Tensor) and one.device.type == GPU]
        assert not any(one.dtype == torch.float64 for one in there), f"{function} is float64"
        assert not (there and "linalg" in str(function)), f"{function} is missing"
        return result


@pytest.fixture
def apple(monkeypatch):
    """Tensors that know shape, type and device, and have no numbers. PyTorch has none for mps here, hence another GPU's name."""
    monkeypatch.setattr(precision, "LACK_FLOAT64", {GPU})
    with FakeTensorMode(), AppleGPU():
        yield GPU


class NoFloat64(TorchDispatchMode):
    """float64 is an error."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        assert not any(isinstance(one, torch.Tensor) and one.dtype == torch.float64 for one in tree_leaves(result)), function
        return result


@pytest.mark.parametrize("statistic", STATISTICS)
def test_statistics_and_their_gradients_work_on_devices_without_float64(statistic, monkeypatch):
    monkeypatch.setattr(style_statistics, "exact", lambda values: values)
    monkeypatch.setattr(style_statistics, "widest", lambda device: torch.float32)
    activations = torch.rand(1, 3, 5, 6, requires_grad=True)
    with NoFloat64():
        distance = STATISTICS[statistic](moments(torch.rand(1, 3, 4, 6)))(moments(activations))
        (gradient,) = torch.autograd.grad(distance, activations)
    assert gradient.dtype == torch.float32


def test_colours_are_matched_without_float64_as_well(apple):
    picture, like = torch.rand(1, 3, 8, 9, device=apple), torch.rand(1, 3, 5, 6, device=apple)
    matched = colours.match_colours(picture, like)
    assert (matched.shape, matched.dtype, matched.device.type) == ((1, 3, 8, 9), torch.float32, GPU)


def test_values_stay_on_a_device_that_has_float64():
    values = torch.rand(3)
    assert exact(values).dtype == torch.float64
    assert exact(values).device == values.device
    assert "mps" in precision.LACK_FLOAT64
