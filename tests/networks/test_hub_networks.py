"""The networks of the Hub: files as their repositories keep them, with random weights, compared with torchvision's own models."""

import functools
import io
import math
import re
import threading
import time
from collections.abc import Callable

import pytest
import torch
from loopback_hub import LoopbackHub, as_file, torchvision_model
from torch import nn

from featviz import limits
from featviz.errors import FieldError, ImageError, WeightsError
from featviz.media.images import Header
from featviz.networks import cache
from featviz.networks.cache import load, load_untrained
from featviz.networks.table import BUNDLED, LOGITS, NETWORKS
from featviz.recipes.deepdream import DeepDream
from featviz.runtime.estimate import estimate, warm_up
from featviz.runtime.stream import prepare
from featviz.runtime.throughput import Speed

ROWS = [name for name in NETWORKS if name not in BUNDLED]

IMAGE = torch.rand(1, 3, 90, 80, generator=torch.Generator().manual_seed(0))

Put = Callable[..., None]


@pytest.fixture
def put(hub_on_loopback: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Puts a network's file on the Hub on loopback, to be accepted with any sha256."""

    def put(name: str, content: bytes) -> None:
        row = NETWORKS[name].weights
        hub_on_loopback.files[row.repo, row.file] = content
        monkeypatch.setenv("FEATVIZ_REVISIONS", f"some/other@v1 {row.repo}@main")

    return put


def outputs_of(model: nn.Module, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return qualified name → output of every module of a model, with "" for the model itself."""
    outputs = {}
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: outputs.__setitem__(name, output.clone()))
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            outputs[""] = model(image)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


@functools.cache
def googlenet() -> bytes:
    return as_file("googlenet", torchvision_model("googlenet"))


def in_torchvision(name: str, layer: str, model: nn.Module) -> str:
    """Return torchvision's own name of a layer. Does not use the table of networks, so that a test can check the table."""
    if name.startswith("vgg"):
        pools = [int(child) for child, module in model.features.named_children() if isinstance(module, nn.MaxPool2d)]
        block, i = map(int, re.fullmatch(r"relu(\d)_(\d)", layer).groups())
        return f"features.{[-1, *pools][block - 1] + 2 * i}"
    if name.startswith("resnet"):
        return "relu" if layer == "conv1" else layer.replace("_", ".")
    if name == "inception_v3" and layer.startswith("conv"):
        return f"Conv2d_{layer[4:]}_{'1x1' if layer == 'conv3b' else '3x3'}"
    return f"Mixed_{layer[5:]}" if name == "inception_v3" else layer


@pytest.mark.parametrize("name", ROWS)
def test_activations_are_those_of_torchvision_s_model_with_the_same_weights(name, put, hub_on_loopback, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # Without bfloat16, which is less precise.
    model = torchvision_model(name)
    put(name, as_file(name, model, AuxLogits__fc__weight=torch.ones(1000, 768)))
    network = load(name)
    # torchvision normalises its pictures by ImageNet's statistics, and of two of its models takes that back inside.
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    model.transform_input = name in ("googlenet", "inception_v3")
    theirs = outputs_of(model, (IMAGE - mean) / std)
    ours = network.activations(IMAGE, network.spec.layers)
    assert list(ours) == list(network.spec.layers)
    for layer, activations in ours.items():
        expected = theirs[in_torchvision(name, layer, model)]
        if layer != "conv1" or not name.startswith("resnet"):  # That ReLU is one module, used again and again.
            assert torch.allclose(activations, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item()), layer
        assert activations.std() > 0.01
    if network.spec.classifier:
        assert torch.allclose(network.logits(IMAGE), theirs[""], rtol=1e-3, atol=1e-4 * theirs[""].abs().max().item())
    for layer in list(network.spec.layers)[:3]:  # As recorded, and not overwritten by what comes after.
        assert torch.equal(network.activations(IMAGE, [layer])[layer], ours[layer])

    cache._loaded.clear()
    hub_on_loopback.log.clear()
    assert torch.equal(load(name).activations(IMAGE, [layer])[layer], ours[layer])
    assert hub_on_loopback.log == []


@pytest.mark.parametrize("name", ROWS)
def test_an_image_of_the_smallest_size_reaches_the_deepest_layer(name):
    spec = NETWORKS[name]
    deepest = list(spec.layers)[-1]
    image = torch.rand(1, 3, spec.smallest, spec.smallest, device="meta")
    assert min(load_untrained(name).activations(image, [deepest])[deepest].shape) >= 1


def test_files_with_a_known_sha256_are_checked():
    hashed = {name for name in ROWS if re.fullmatch("[0-9a-f]{64}", NETWORKS[name].weights.sha256 or "")}
    assert hashed >= {"vgg16", "inception_v3", "resnet50", "googlenet"}
    assert NETWORKS["googlenet"].weights.file == "IMAGENET1K_V1/model.safetensors"


def test_a_file_without_a_classifier_gives_layers_but_no_classes(put):
    put("googlenet", as_file("googlenet", torchvision_model("googlenet"), without="classifier"))
    network = load("googlenet")
    assert network.activations(IMAGE, ["inception3a"])["inception3a"].shape[1] == 256
    with pytest.raises(FieldError, match="The weights of GoogLeNet have no classifier; choose a layer instead"):
        network.activations(IMAGE, [LOGITS])
    recipe = DeepDream(layer="googlenet/inception3a", class_name="hummingbird", size=64)
    with pytest.raises(FieldError, match="have no classifier"):
        next(recipe.run(network, image=IMAGE))


def pickled() -> bytes:
    file = io.BytesIO()
    torch.save({"conv1.conv.weight": torch.ones(3)}, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda model: as_file("googlenet", model, without="inception4c.branch2.1.conv"),
         r"has no tensor 'inception4c\.branch2\.1\.conv\.weight', which the network needs"),
        (lambda model: as_file("googlenet", model, conv2__conv__weight=torch.ones(64, 32, 1, 1)),
         r"'conv2\.conv\.weight' in .* is 64×32×1×1; the network needs 64×64×1×1"),
        (lambda model: pickled(), r"of lucid-dl/googlenet cannot be read as safetensors"),
    ],
    ids=["without a tensor", "another shape", "a pickle"],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_with_what_is_wrong(make, sentence, put):
    put("googlenet", make(torchvision_model("googlenet")))
    with pytest.raises(WeightsError, match=sentence):
        load("googlenet")


def test_a_failed_download_names_the_networks_that_need_none(hub_on_loopback):
    hub_on_loopback.trouble = 500
    with pytest.raises(WeightsError, match=r"error 500 .* VGG-19 and EfficientNet-Lite0 need no download\."):
        load("resnet50")


def test_a_download_does_not_block_other_networks(put, hub_on_loopback):
    put("googlenet", googlenet())
    hub_on_loopback.trouble = "held"
    thread = threading.Thread(target=load, args=("googlenet",))
    thread.start()
    while not hub_on_loopback.downloads:
        time.sleep(0.01)
    assert load("vgg19").activations(IMAGE, ["relu1_1"])
    assert thread.is_alive()
    hub_on_loopback.go_on.set()
    thread.join()
    assert ("googlenet", "cpu") in cache._loaded


def test_least_recently_used_networks_are_dropped_and_runs_keep_theirs(monkeypatch):
    monkeypatch.setattr(cache, "_loaded", cache._loaded.copy())
    cache._loaded.clear()
    lite, vgg = load("efficientnet_lite0"), load("vgg19")
    assert 18e6 < lite.bytes < 22e6
    assert vgg.bytes == sum(parameter.nbytes for parameter in vgg.module.parameters())
    monkeypatch.setenv(limits.NETWORK_MEGABYTES.variable, str(math.ceil((lite.bytes + vgg.bytes) / 1e6)))
    assert load("efficientnet_lite0") is lite
    assert load("vgg19") is vgg
    monkeypatch.setenv(limits.NETWORK_MEGABYTES.variable, str(math.ceil(vgg.bytes / 1e6)))
    cache._loaded.pop(("efficientnet_lite0", "cpu"))
    again = load("efficientnet_lite0")
    assert list(cache._loaded) == [("efficientnet_lite0", "cpu")]  # The latest one stays; the other has made room.
    assert vgg.activations(IMAGE, ["relu1_1"])["relu1_1"].std() > 0
    assert again is not lite


def test_warming_up_and_estimates_send_no_request(hub_on_loopback, monkeypatch):
    measured = []
    monkeypatch.setattr("featviz.runtime.estimate._measure", lambda name, where: measured.append(name))
    monkeypatch.setattr("featviz.runtime.estimate._speeds", {("cpu", name): Speed(1e9, 1e9) for name in BUNDLED})
    warm_up("cpu")
    assert measured == list(BUNDLED)
    assert {name for name, _ in cache._loaded} == set(BUNDLED)
    estimates = [
        estimate(DeepDream(layer=f"{name}/{next(iter(NETWORKS[name].layers))}"), {"image": Header((400, 300))})
        for name in NETWORKS
    ]
    assert [one.download for one in estimates] == [name not in BUNDLED for name in NETWORKS]
    assert all(one.seconds > 0 and one.bytes > 0 for one in estimates)
    assert hub_on_loopback.log == []


def test_preparing_a_recipe_downloads_its_network_after_checking_its_pictures(put, hub_on_loopback, tmp_path):
    put("googlenet", googlenet())
    recipe = DeepDream(layer="googlenet/inception3a")
    with pytest.raises(ImageError, match="no-such"):
        list(prepare(recipe, device="cpu", image=tmp_path / "no-such.png"))
    assert hub_on_loopback.log == []
    assert list(prepare(DeepDream(), device="cpu", image="examples/cat.jpg")) == []
    shown = list(prepare(recipe, device="cpu", image="examples/cat.jpg"))
    assert shown[-1].repo == "lucid-dl/googlenet"
    assert ("googlenet", "cpu") in cache._loaded
