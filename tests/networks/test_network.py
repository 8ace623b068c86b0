"""`Network`, on the bundled networks and a tiny one."""

import copy

import numpy as np
import pytest
import torch
from standins import tiny
from torch import nn
from torch.nn import functional

from featviz.errors import FieldError, InputError
from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load, load_module, return_value
from featviz.networks.network import MODULE_WORK, WEIGHT_COPIES, Network, fastest_dtype, fold_batch_norms
from featviz.networks.table import BUNDLED, INPUT, LOGITS, NETWORKS, class_names
from featviz.networks.weights import Bundled
from featviz.optimise.scaling import fit
from featviz.recipes import presets

CAT = to_tensor(open_picture(presets.FOLDER / "cat.jpg"))


def test_the_cat_is_a_tabby_or_an_egyptian_cat():
    network = load("efficientnet_lite0")
    probabilities = network.logits(fit(CAT, 224, 32)).softmax(1)[0]
    assert probabilities.argmax().item() in (281, 282, 285)  # tabby, tiger cat, Egyptian cat
    assert probabilities[[281, 282, 285]].sum() > 0.9


def exact(name: str, kind: torch.dtype) -> Network:
    """A bundled network in a precision of choice."""
    trunk = load_module(name)
    network = Network(NETWORKS[name], trunk.to(kind))
    network._mean, network._std = network._mean.to(kind), network._std.to(kind)
    return network


@pytest.mark.parametrize("name", BUNDLED)
def test_gradients_are_those_of_float64_in_the_precision_of_this_machine(name):
    network, slow = load(name), exact(name, torch.float64)
    image = fit(CAT, 48, 32)
    for layer in (next(iter(network.spec.layers)), network.spec.content_layer, list(network.spec.layers)[-1]):
        seen = [image.to(kind).requires_grad_() for kind in (torch.float32, torch.float64)]
        answers = [one.activations(x, [layer])[layer] for one, x in zip((network, slow), seen, strict=True)]
        assert answers[0].dtype == torch.float32
        ours, theirs = (torch.autograd.grad(a.square().sum(), x)[0].double() for a, x in zip(answers, seen, strict=True))
        likeness = functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0)
        assert likeness > 0.99


def test_folding_batch_norms_changes_no_output_and_no_gradient():
    plain, image = load_module("efficientnet_lite0").double(), fit(CAT, 48, 32).double()
    seen = [image.clone().requires_grad_() for _ in range(2)]
    answers = [plain[:10](seen[0]), fold_batch_norms(copy.deepcopy(plain))[:10](seen[1])]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in exact("efficientnet_lite0", torch.float32).module.modules())
    assert torch.allclose(*answers, atol=1e-9)
    assert torch.allclose(*(torch.autograd.grad(a.square().sum(), x)[0] for a, x in zip(answers, seen, strict=True)), atol=1e-8)


@pytest.mark.parametrize(
    ("network", "device", "able", "found"),
    [
        ("vgg19", "cpu", {"avx512_bf16": True}, torch.bfloat16),
        ("vgg19", "cpu", {"avx512_bf16": False}, torch.float32),
        ("efficientnet_lite0", "cpu", {"avx512_bf16": True}, torch.float32),
        ("vgg19", "mps", {"avx512_bf16": True}, torch.float32),
        ("vgg19", "cuda:0", (9, 0), torch.bfloat16),
        ("vgg19", "cuda:0", (8, 0), torch.bfloat16),
        ("vgg19", "cuda:0", (7, 5), torch.float32),
        ("efficientnet_lite0", "cuda:0", (9, 0), torch.float32),
    ],
)
def test_bfloat16_is_used_only_if_the_network_and_the_device_support_it(network, device, able, found, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: able)
    assert fastest_dtype(NETWORKS[network], device) == found


@pytest.mark.parametrize("name", BUNDLED)
def test_a_shallow_layer_does_not_run_deeper_ones(name):
    network = load(name)
    layers = list(network.spec.layers)
    ran = []
    handles = [
        module.register_forward_hook(lambda *_, child=child: ran.append(child))
        for child, module in network.module.named_children()
    ]
    try:
        network.activations(fit(CAT, 64, 32), [layers[0], layers[2]])
    finally:
        for handle in handles:
            handle.remove()
    assert ran[-1] == network.spec.layers[layers[2]]


def test_activations_are_those_of_the_plain_modules_and_stay_as_recorded():
    network = tiny()
    image = torch.rand(2, 3, 10, 11)
    found = network.activations(image, ["relu1", "conv3", INPUT])
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (network.spec.mean, network.spec.std))
    first = functional.relu(network.module[0]((image - mean) / std))
    assert set(found) == {"relu1", "conv3", INPUT}
    assert torch.equal(found[INPUT], image)
    assert torch.equal(found["relu1"], first)
    assert torch.equal(found["conv3"], network.module[4](functional.relu(network.module[2](first))))


def test_an_edit_of_a_layer_is_seen_by_all_later_layers():
    """Against a plain forward hook. The image itself is a layer, too."""
    network, image = tiny(), torch.rand(2, 3, 10, 11)
    edits = {"relu1": lambda maps: maps * torch.tensor([0.0, 1, 2, 1]).view(1, 4, 1, 1)}
    found = network.activations(image, ["relu1", "conv3"], edits=edits)
    with network.module[1].register_forward_hook(lambda _, __, output: edits["relu1"](output)):
        slow = network.activations(image, ["conv3"])["conv3"]
    before = network.activations(image, ["relu1", "conv3"])
    assert torch.equal(found["conv3"], slow)
    assert torch.equal(found["relu1"], edits["relu1"](before["relu1"]))
    assert not torch.allclose(found["conv3"], before["conv3"])
    dark = network.activations(image, ["conv3", INPUT], edits={INPUT: torch.zeros_like})
    assert torch.equal(dark["conv3"], network.activations(torch.zeros_like(image), ["conv3"])["conv3"])
    assert not dark[INPUT].any()
    with pytest.raises(FieldError, match="Tiny has no layer 'relu9'"):
        network.activations(image, ["conv3"], edits={"relu9": torch.zeros_like})


def test_an_image_too_small_for_the_network_is_refused_with_its_size():
    with pytest.raises(InputError, match="VGG-19 needs at least 32 pixels a side; this image is 40×20"):
        load("vgg19").activations(torch.rand(1, 3, 20, 40), ["relu1_1"])


def test_the_cost_of_a_convolution_is_as_counted_by_hand():
    """relu1 of the tiny network: 3·3·3 products for each of 4 channels, there and back. At the peak, in the backward pass of the
    square: the normalised image, and relu1, its gradient and two products on the way to that.
    """
    cost = tiny().cost(["relu1"])
    assert cost.flops == 2 * 2 * 3 * 3 * 3 * 4
    assert cost.bytes == pytest.approx(4 * (3 + 4 * 4), rel=0.01)
    assert cost.forward_bytes == pytest.approx(4 * (3 + 2 * 4), rel=0.01)  # The normalised image, relu1 and its input.
    assert cost.fixed_work == 4 * 3 * 9 + 4 + MODULE_WORK  # One convolution: its weights and biases.
    assert cost.fixed_bytes == WEIGHT_COPIES * 4 * (4 * 3 * 9)
    assert tiny().cost(["conv3"]).fixed_bytes == WEIGHT_COPIES * 4 * (6 * 5 * 9)  # The largest of three.


def test_a_deeper_layer_costs_more_and_vgg19_what_the_literature_says():
    network = load("vgg19")
    costs = [network.cost([layer]).flops for layer in network.spec.layers]
    assert costs == sorted(costs)
    forward = network.cost(["relu5_4"]).flops / 4 * 224**2  # Half of it is the way back, and a product and a sum are two.
    assert forward == pytest.approx(19.5e9, rel=0.02)  # Multiplications of VGG-19 at 224², without its three linear layers.


def test_a_classifier_has_one_logit_for_each_class():
    network = load("efficientnet_lite0")
    assert len(class_names()) == network.activations(fit(CAT, 64, 32), [LOGITS])[LOGITS].shape[1] == 1000
    assert class_names()[285] == "Egyptian cat"
    with pytest.raises(FieldError, match="VGG-19 has no layer 'logits'"):
        load("vgg19").activations(CAT, [LOGITS])


@pytest.mark.parametrize("name", BUNDLED)
def test_continued_replicates_the_border_of_the_image(name):
    """A constant image then has no border: the first layer has the same value everywhere, corners included."""
    network, first = load(name), next(iter(NETWORKS[name].layers))
    image = torch.full((1, 3, 96, 97), 0.9)
    plain, continued = (network.activations(image, [first], continued=continued)[first] for continued in (False, True))
    assert continued.shape == plain.shape
    assert torch.allclose(continued, continued[..., 3:4, 3:4].expand_as(continued), atol=1e-3)
    assert torch.allclose(plain[..., 4:-4, 4:-4], continued[..., 4:-4, 4:-4], atol=1e-3)
    assert not torch.allclose(plain, continued, atol=1e-1)


@pytest.mark.parametrize("name", BUNDLED)
def test_a_layer_sees_as_far_as_its_margin_and_no_further(name):
    network = load(name)
    for layer in NETWORKS[name].style_layers:
        stride, margin = network.receptive_field(layer).stride, network.receptive_field(layer).margin
        image = torch.rand(1, 3, 96, 512)
        changed = image.clone()
        changed[..., 256 + margin :] = torch.rand(1, 3, 96, 256 - margin)
        before, after = (network.activations(one, [layer])[layer] for one in (image, changed))
        column = 256 // stride
        assert torch.allclose(before[..., column], after[..., column], atol=1e-4 * before.abs().max())
        changed[..., 256 + margin // 4 :] = torch.rand(1, 3, 96, 256 - margin // 4)
        if layer != INPUT:
            assert not torch.equal(before[..., column], network.activations(changed, [layer])[layer][..., column])


def test_vgg19_equals_a_slow_computation_on_bgr_255_minus_the_caffe_means():
    """Convolutions as explicit sums over the dequantised filters, in the order the network was trained in."""
    row = NETWORKS["vgg19"].weights
    plain = Bundled(row.distribution, row.file, row.sha256)
    entries = plain.load(return_value(plain.fetch()), {})
    rgb = fit(CAT, 48, 32)
    bgr = rgb[0].flip(0).double().numpy() * 255 - np.array([103.939, 116.779, 123.68]).reshape(3, 1, 1)

    def convolve(features, name):
        filters = entries[f"{name}_W_table"][entries[f"{name}_W_q"].long()].double().numpy()
        height, width = features.shape[1:]
        padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
        result = np.zeros((len(filters), height, width)) + entries[f"{name}_b"].double().numpy().reshape(-1, 1, 1)
        for dy in range(3):
            for dx in range(3):
                result += np.einsum("oi,ihw->ohw", filters[:, :, dy, dx], padded[:, dy : dy + height, dx : dx + width])
        return np.maximum(result, 0)

    def pool(features):
        height, width = (side // 2 * 2 for side in features.shape[1:])
        windows = features[:, :height, :width].reshape(len(features), height // 2, 2, width // 2, 2)
        return windows.max(axis=(2, 4))

    found = exact("vgg19", torch.float32).activations(rgb, NETWORKS["vgg19"].layers)
    features = bgr
    for block, convolutions in enumerate((2, 2, 4, 4, 4), start=1):
        for i in range(1, convolutions + 1):
            features = convolve(features, f"block{block}_conv{i}")
            ours = found[f"relu{block}_{i}"][0].numpy()
            assert np.abs(ours - features).max() < 1e-4 * np.abs(features).max()
        features = pool(features)
