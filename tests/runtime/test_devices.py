"""Devices by their names, with stand-ins for GPUs."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from featviz.cli import main
from featviz.errors import InputError
from featviz.runtime import devices
from featviz.runtime.devices import find_devices, limitations, slot, unusable_gpu
from featviz.runtime.scheduler import Scheduler

NO_KERNEL = "CUDA error: no kernel image is available for execution on the device\nCompile with `TORCH_USE_CUDA_DSA`."


@pytest.fixture
def machine(monkeypatch):
    """Build a machine with so many CUDA cards, some of them broken, and perhaps Apple's GPU. It has no GPU at first."""

    def build(cards: int = 0, broken: tuple[str, ...] = (), *, mps: bool = False) -> list[str]:
        tried = []

        def conv2d(image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            if tried[-1] in broken:
                raise RuntimeError(NO_KERNEL)
            return image * weight.mean()

        def ones(*size: int, device: torch.device, requires_grad: bool = False) -> torch.Tensor:
            tried.append(str(device))
            return torch.full(size, 1.0, requires_grad=requires_grad)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch, "ones", ones)
        monkeypatch.setattr(nn.functional, "conv2d", conv2d)
        devices._try_gpu.cache_clear()
        return tried

    build()
    yield build
    devices._try_gpu.cache_clear()


def named(device: str) -> list[str]:
    return list(map(str, find_devices(device)))


def test_auto_is_the_best_usable_device(machine):
    assert named("auto") == ["cpu"]
    machine(mps=True)
    assert named("auto") == ["mps"]
    machine(cards=2, mps=True)
    assert named("auto") == ["cuda:0", "cuda:1"]
    machine(cards=2, broken=("cuda:0",))
    assert named("auto") == named("cuda") == ["cuda:1"]
    machine(cards=1, broken=("cuda:0",), mps=True)
    assert named("auto") == ["mps"]


def test_a_device_is_named_by_kind_or_index(machine):
    machine(cards=12, mps=True)
    assert (named("cpu"), named("mps"), named("cuda:1"), named("cuda:11")) == (["cpu"], ["mps"], ["cuda:1"], ["cuda:11"])
    assert len(named("cuda")) == 12


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("cdua", "There is no device 'cdua'; did you mean 'cuda'?"),
        ("cuda:", "There is no device 'cuda:'; did you mean 'cuda"),
        ("cuda:-1", "There is no device 'cuda:-1'; did you mean 'cuda"),
        ("", "There is no device ''; accepted: 'auto', 'cpu', 'cuda', 'cuda:0', 'mps'"),
        ("cuda:2", "There is no 'cuda:2' here; there are cuda:0, cuda:1."),
        ("mps", "There is no Apple GPU here; 'cpu' and 'auto' work."),
    ],
)
def test_an_absent_device_is_refused_with_one_sentence(device, sentence, machine, capsys):
    machine(cards=2)
    with pytest.raises(InputError) as caught:
        find_devices(device)
    assert str(caught.value).startswith(sentence)
    assert main(["deepdream", "no_such.jpg", "out.png", f"--device={device}"]) == 2
    assert capsys.readouterr().err.startswith(sentence)


def test_an_unusable_card_is_refused_by_its_name_and_leaves_auto_on_the_cpu_with_a_sentence(machine, capsys):
    tried = machine(cards=1, broken=("cuda:0",))
    reason, _, _ = NO_KERNEL.partition("\n")
    for device in ("cuda", "cuda:0"):
        with pytest.raises(InputError) as caught:
            find_devices(device)
        assert str(caught.value) == f"The CUDA card here cannot be used ({reason}); 'cpu' and 'auto' work."
    assert named("auto") == ["cpu"]
    sentence = f"The CUDA card cuda:0 cannot be used ({reason}), so runs take cpu."
    assert (unusable_gpu("auto"), unusable_gpu("cpu")) == (sentence, "")
    assert limitations("auto")[:2] == [sentence, "There is no GPU, so a run takes from seconds to minutes."]
    assert main(["deepdream", "no_such.jpg", "out.png"]) == 2
    assert capsys.readouterr().err.startswith(sentence)
    assert set(tried) == {"cuda:0"}
    assert len(tried) == 2  # Two tensors of one try.


def test_a_zero_gpu_is_not_tried(machine, monkeypatch):
    tried = machine(cards=1, broken=("cuda:0",))
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert named("auto") == ["cuda:0"]
    assert tried == []


def test_threads_that_ask_at_the_same_time_share_one_scheduler(monkeypatch):
    """With two, steps of two runs would hold the device at once."""
    both, make = threading.Barrier(2), Scheduler.__init__

    def make_slowly(scheduler):
        both.wait(10)  # Both threads have found none.
        make(scheduler)

    monkeypatch.setattr(Scheduler, "__init__", make_slowly)
    device = torch.device("cuda", 7)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(slot, [device] * 2)
    assert first._scheduler is second._scheduler
    assert first._scheduler.runs == 2


def test_a_run_on_a_card_sets_how_products_are_rounded(machine):
    machine(cards=1)
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    try:
        products.allow_tf32, convolutions.allow_tf32 = True, False
        devices.resolve("cpu")
        assert (products.allow_tf32, convolutions.allow_tf32) == (True, False)
        devices.resolve("cuda")
        assert (products.allow_tf32, convolutions.allow_tf32) == (False, True)
        assert not products.allow_bf16_reduced_precision_reduction
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
