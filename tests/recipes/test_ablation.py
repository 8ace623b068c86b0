"""Channels and regions that are switched off: names against those of a plain forward pass with a hook."""

import pytest
import torch
from torch.nn import functional

from featviz.errors import FieldError, InputError
from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.networks.table import class_names
from featviz.optimise.scaling import fit
from featviz.recipes import presets
from featviz.recipes.ablation import Ablation, logits_without, search, without_region

CAT = to_tensor(open_picture(presets.FOLDER / "cat.jpg"))
SMALL = fit(CAT, 96, 32)
LAYER = "efficientnet_lite0/block9"


def hooked(channels: list[int]) -> torch.Tensor:
    """The logits of a plain pass of the module, with a hook that sets channels of block9 to 0."""
    network = load("efficientnet_lite0")

    def switch_off(module, arguments, output):
        output = output.clone()
        output[:, channels] = 0
        return output

    with torch.no_grad(), network.module.block9.register_forward_hook(switch_off):
        return network.module((SMALL - network._mean) / network._std).flatten()


def test_channels_off_give_the_names_of_a_hooked_pass():
    expected, before = hooked([5, 17, 40]).softmax(0), hooked([]).softmax(0)
    (frame,) = Ablation(layer=LAYER, channels="17, 5, 40", size=96).run(load("efficientnet_lite0"), image=CAT)
    measures = {name: value.item() for name, value in frame.measures.items()}
    names = class_names()
    probabilities, classes = expected.topk(5)
    assert list(measures)[:5] == [names[index] for index in classes]
    assert list(measures.values())[:5] == pytest.approx(probabilities.tolist(), rel=1e-4)
    probabilities, classes = before.topk(5)
    assert list(measures)[5:] == [f"before: {names[index]}" for index in classes]
    assert list(measures.values())[5:] == pytest.approx(probabilities.tolist(), rel=1e-4)
    assert not torch.allclose(expected, before, atol=1e-3)
    network = load("efficientnet_lite0")
    assert torch.allclose(logits_without(network, SMALL, "head", range(1280)), network.module.logits[1].bias, atol=1e-6)


def test_the_search_takes_the_strongest_channel_in_each_step_and_stops_when_the_name_changes():
    """At the last layer the effects are exact: against switching off every channel by itself."""
    network = load("efficientnet_lite0")
    *states, last = search(network, SMALL, "head", 64)
    name = states[0].logits.argmax()
    assert last.done
    assert last.logits.argmax() != name
    assert all(state.logits.argmax() == name and not state.done for state in states)
    maps, linear = network.activations(SMALL, ["head"])["head"][0], network.module.logits[1]
    for before, after in zip(states, [*states[1:], last], strict=True):
        rival = before.logits.index_fill(0, name, -torch.inf).argmax()
        weights = (linear.weight[name] - linear.weight[rival]).flatten()
        effects = maps.mean((1, 2)) * weights
        effects[[*before.off]] = 0
        (new,) = after.off.keys() - before.off.keys()
        assert new == effects.argmax()
        assert after.off[new] == pytest.approx(effects[new].item(), rel=1e-4)
        margins = [logits[name] - logits[rival] for logits in (before.logits, after.logits)]
        assert margins[0] - margins[1] == pytest.approx(effects[new].item(), abs=1e-4)


def test_the_search_ends_at_the_most_channels_and_its_frames_count_them():
    recipe = Ablation(layer=LAYER, most=2, size=96)
    frames = list(recipe.run(load("efficientnet_lite0"), image=CAT))
    off = [[name for name in frame.measures if name.startswith("off: channel ")] for frame in frames]
    assert [len(names) for names in off] == [1, 2]
    assert [frame.step == frame.steps for frame in frames] == [False, True]
    channels = [int(name.removeprefix("off: channel ")) for name in off[-1]]
    probability = hooked(channels).softmax(0).max().item()
    assert next(iter(frames[-1].measures.values())).item() == pytest.approx(probability, rel=1e-4)


def test_a_region_off_is_filled_with_its_surroundings_and_changes_no_other_pixel():
    """Against a fill by the sum over all pixels, with a Gaussian cut at three standard deviations."""
    image = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 24, 32)
    mask[..., 8:14, 10:20] = 1
    filled = without_region(image, mask)
    assert torch.equal(filled[..., :8, :], image[..., :8, :])
    sigma, radius = 2.4, 8
    down, right = torch.meshgrid(torch.arange(-radius, radius + 1), torch.arange(-radius, radius + 1), indexing="ij")
    kernel = torch.exp(-(down**2 + right**2) / (2 * sigma**2))
    padded_image, padded_rest = (functional.pad(one, (radius,) * 4, mode="reflect") for one in (image * (1 - mask), 1 - mask))
    window = (..., slice(10, 10 + 2 * radius + 1), slice(15, 15 + 2 * radius + 1))  # Around row 10, column 15.
    slow = (padded_image[window] * kernel).sum((2, 3)) / (padded_rest[window] * kernel).sum()
    assert torch.allclose(filled[0, :, 10, 15], slow[0], atol=0.01)
    # Without a near rest, a region has the mean colour of the rest.
    image = torch.full((1, 3, 64, 64), 0.5)
    image[..., 0, :] = 1.0
    mask = torch.ones(1, 1, 64, 64)
    mask[..., 0, :] = 0
    assert without_region(image, mask)[0, :, 63, 5].tolist() == pytest.approx([1.0] * 3, abs=1e-3)


def test_a_painted_region_changes_the_names():
    """The picture that the network sees is that of the frame."""
    mask = torch.zeros_like(CAT)
    mask[..., CAT.shape[-1] // 4 : 3 * CAT.shape[-1] // 4] = 1
    network = load("efficientnet_lite0")
    (frame,) = Ablation(layer=LAYER, size=96).run(network, image=CAT, mask=mask)
    seen = network.logits(frame.image)[0].softmax(0).max().item()
    assert next(iter(frame.measures.values())).item() == pytest.approx(seen, rel=1e-4)
    edge = 96 // 4 - 8
    assert torch.allclose(frame.image[..., :edge], SMALL[..., :edge], atol=1e-3)
    assert not torch.allclose(frame.image, SMALL, atol=0.1)
    with pytest.raises(InputError, match="mask is empty"):
        list(Ablation(layer=LAYER, size=96).run(network, image=CAT, mask=mask * 0))


def test_a_channel_that_does_not_exist_is_refused():
    with pytest.raises(FieldError, match="block9 has no channel 112; it has 0 to 111"):
        list(Ablation(layer=LAYER, channels="112").run(load("efficientnet_lite0"), image=CAT))


def test_a_search_takes_two_passes_for_each_channel_and_the_memory_of_a_backward_pass():
    network = load("efficientnet_lite0")
    searching, given = (Ablation(most=3, channels=channels).demand(network, (512, 512)) for channels in ("", "1"))
    assert searching.flops == 7 / 2 * given.flops
    assert searching.bytes > given.bytes == Ablation(most=3).demand(network, (512, 512), mask=(9, 9)).bytes
