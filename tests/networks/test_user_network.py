"""Networks added by users: every family, every recipe, files of weights, packages."""

import copy
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from loopback_hub import as_file, torchvision_model
from snippets import ROOT, run, snippets
from standins import small, together
from torch import Tensor, nn
from torch.nn import functional
from user_modules import CLASSES, FAMILY, Toy, UNet, add_tiny, seeded

import featviz
from featviz import cli
from featviz.errors import FieldError, InputError, WeightsError
from featviz.media.images import Header
from featviz.networks import table
from featviz.networks.cache import load, load_untrained
from featviz.networks.network import Network
from featviz.networks.table import INPUT, NETWORKS, ChannelsLast, NetworkSpec, Tokens
from featviz.networks.user_network import add_network, describe_network, remove_network
from featviz.recipes import metadata
from featviz.recipes.recipe import choices
from featviz.recipes.table import RECIPES
from featviz.runtime.estimate import estimate
from featviz.ui.controls import control

PHOTO = ROOT / "examples" / "cat.jpg"

pytestmark = pytest.mark.usefixtures("remove_added_networks")


# Every family

FIXED = {"vit": 64, "timm_vit": 64, "toy": 64}
SEE_EVERYTHING = {"mobilenet_v3", "vit", "timm_mobilenet_v3", "timm_vit", "toy"}

CHOSEN = {
    "timm_resnet": ["conv1", "layer1.0.bn1", "layer2", "layer4"],
    "timm_convnext": ["stem", "stages.0.blocks.0.conv_dw", "stages.1", "stages.3"],
    "timm_mobilenet_v3": ["conv_stem", "blocks.1.0.conv_dw", "blocks.2", "blocks.4.1.se", "blocks.5"],
}
"""Layers given for the families with many; all are measured for the others."""


@cache
def described(family: str) -> NetworkSpec:
    """Return the row of a family's module, measured once for all tests."""
    return describe_network(seeded(FAMILY[family]), layers=CHOSEN.get(family), classes=None if family == "unet" else CLASSES)


@pytest.mark.parametrize("family", FAMILY)
def test_gradients_are_those_of_plain_autograd(family):
    module = seeded(FAMILY[family])
    row = NETWORKS["mine"] = described(family)
    layers = list(row.layers)
    assert row.fixed_size == FIXED.get(family)
    network = load("mine")
    for layer in (layers[0], layers[len(layers) // 2], layers[-1]):
        ours, plain = gradients(network, module.eval().requires_grad_(False), row, layer)
        assert ours.abs().sum() > 0
        assert torch.allclose(ours, plain, rtol=1e-3, atol=1e-4 * plain.abs().max().item()), layer
    assert network.tiled([layers[-1]]) == (family not in SEE_EVERYTHING)


@pytest.mark.parametrize(
    ("family", "recipe"),
    [(family, "deepdream") for family in FAMILY if family != "toy"]
    + [(family, "style_transfer") for family in ("unet", "convnext", "vit")]
    + [("toy", recipe) for recipe in RECIPES],
)
def test_recipes_run(family, recipe):
    row = NETWORKS["mine"] = described(family)
    named = {"class_name": "dog"} if recipe == "deepdream" and row.classes else {}
    made = small(
        RECIPES[recipe], layer=f"mine/{row.content_layer}", network="mine", channel=1, steps=1, octaves=1, scales=1, **named
    )
    *_, frame = featviz.stream(made, device="cpu", **dict.fromkeys(made.images, PHOTO))
    assert frame.done
    assert math.isfinite(frame.loss)
    assert estimate(made, dict.fromkeys(made.images, Header((64, 48))), device="cpu").bytes > 0


def gradients(network: Network, module: nn.Module, row: NetworkSpec, layer: str) -> tuple[Tensor, Tensor]:
    """Return the gradients of ½‖a‖² with respect to an image: by `Network`, and by a single hook."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    images = [image.clone().requires_grad_() for _ in range(2)]
    outputs: list[Tensor] = []
    handle = dict(module.named_modules())[row.layers[layer]].register_forward_hook(
        lambda *given: outputs.append(given[2].clone())
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (row.mean, row.std))
    module((images[1] - mean) / std)
    handle.remove()
    plain, ours = outputs[0], network.activations(images[0], [layer])[layer]
    if isinstance(layout := row.layouts.get(layer), Tokens):  # Row by row, after the class token.
        assert layout.extra == 1
        plain = plain[:, 1:].transpose(1, 2).reshape(1, -1, 4, 4)
    elif layout == ChannelsLast():
        plain = plain.permute(0, 3, 1, 2)
    assert torch.allclose(ours, plain, rtol=1e-3, atol=1e-4 * plain.abs().max().item())
    pairs = zip((ours, plain), images, strict=True)
    return tuple(torch.autograd.grad(activations.square().sum() / 2, image)[0] for activations, image in pairs)


# The pass


def test_all_layers_at_once_are_as_recorded_whatever_is_changed_in_place():
    row = add_network("mine", module := seeded(Toy).eval())
    image = torch.rand(1, 3, 64, 64)
    found = load("mine").activations(image, row.layers)
    first = module.first((image - torch.tensor(row.mean).view(1, 3, 1, 1)) / torch.tensor(row.std).view(1, 3, 1, 1))
    norm = module.norm(first.relu())
    assert list(found) == ["first", "norm", "second"]
    assert torch.allclose(found["first"], first, atol=1e-5)  # And not its ReLU.
    assert torch.allclose(found["norm"], norm, atol=1e-5)
    assert torch.allclose(found["second"], module.second(norm), atol=1e-5)  # And not the sum.


def test_hooks_are_removed_and_nothing_deeper_runs_even_when_a_pass_fails():
    class Fragile(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
            self.broken, self.calls = False, 0

        def forward(self, image):
            image = self.one(image)
            self.calls += 1
            if self.broken:
                raise RuntimeError("broken")
            return self.two(image)

    add_network("mine", Fragile())
    network = load("mine")
    image = torch.rand(1, 3, 32, 32)
    before = network.module.calls
    network.activations(image, ["one"], continued=True)
    assert network.module.calls == before
    network.module.broken = True
    with pytest.raises(RuntimeError, match="broken"):
        network.activations(image, ["two"], continued=True)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.module.modules())


def test_passes_in_several_threads_do_not_disturb_each_other():
    row = add_tiny()
    network, image = load("tiny"), torch.rand(1, 3, 32, 32)
    alone = {layer: network.activations(image, [layer])[layer] for layer in row.layers}

    def ask(layer: str) -> bool:
        return all(torch.equal(network.activations(image, [layer])[layer], alone[layer]) for _ in range(10))

    assert all(together(*(partial(ask, layer) for layer in list(row.layers)[::4])))


def test_the_users_module_is_not_changed_and_its_later_training_has_no_effect():
    module = seeded(UNet).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    add_network("mine", module)
    network, image = load("mine"), torch.rand(1, 3, 16, 16)
    answer = network.activations(image, ["mix1"])["mix1"]
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(part.inplace for part in module.modules() if isinstance(part, nn.ReLU))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with torch.no_grad():
        module.down1[0].weight.zero_()
    assert torch.equal(network.activations(image, ["mix1"])["mix1"], answer)
    assert not any(parameter.requires_grad for parameter in network.module.parameters())


def pointwise() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3))


@pytest.mark.parametrize("build", [FAMILY["resnet"], UNet, FAMILY["convnext"], pointwise])
def test_the_first_convolution_pads_by_replication(build):
    row = add_network("mine", seeded(build))
    first = next(iter(row.layers))
    image = torch.full((1, 3, 64, 64), 0.9)
    plain, continued = (load("mine").activations(image, [first], continued=continued)[first] for continued in (False, True))
    assert continued.shape == plain.shape
    assert torch.allclose(continued, continued[..., 3:4, 3:4].expand_as(continued), atol=1e-4)


# The table


def test_layers_may_be_chosen_and_named_and_come_in_order_of_execution():
    row = add_tiny(layers={"deep": "bottom", "shallow": "down1"})
    assert list(row.layers.items()) == [("shallow", "down1"), ("deep", "bottom")]
    assert {row.content_layer, *row.style_layers} <= {INPUT, *row.layers}


def test_surfaces_made_afterwards_have_the_new_network():
    field = featviz.DeepDream.model_fields["layer"]
    before = choices(field)
    add_tiny(layers=["down1"])
    assert choices(field) == (*before, "tiny/down1")
    assert ("tiny · down1", "tiny/down1") in control("layer", field).choices
    assert "tiny" in choices(featviz.StyleTransfer.model_fields["network"])
    assert "tiny" not in choices(RECIPES["classification"].model_fields["network"])  # It has no classes.
    remove_network("tiny")
    assert choices(field) == before
    with pytest.raises(FieldError, match="There is no layer 'tiny/down1'; "):
        featviz.DeepDream(layer="tiny/down1")


# Where a picture comes from


def test_a_picture_records_its_network_and_without_it_the_error_names_it(tmp_path):
    add_tiny()
    recipe = featviz.DeepDream(layer="tiny/bottom", size=64, octaves=1, steps=1)
    featviz.save(featviz.run(recipe, image=PHOTO), tmp_path / "out.png")
    note = json.loads(metadata.find(tmp_path / "out.png"))
    assert note["network"] == "tiny"
    assert re.fullmatch("[0-9a-f]{64}", note["weights"])
    assert note["weights"] == describe_network(seeded(UNet)).weights.expected_sha256
    assert featviz.recipe_of(tmp_path / "out.png") == recipe
    remove_network("tiny")
    with pytest.raises(InputError, match=r"made with the network 'tiny', which is not available here; featviz\.add_network adds"):
        featviz.recipe_of(tmp_path / "out.png")
    add_network("tiny", UNet())
    (remark,) = metadata.read(tmp_path / "out.png", RECIPES).remarks
    assert remark == "It was made with other weights of tiny; the result will differ."


# A file with weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A GoogLeNet that was trained anew on three classes."""
    model = torchvision_model("googlenet")
    path = tmp_path_factory.mktemp("weights") / "my.safetensors"
    path.write_bytes(as_file("googlenet", model, classifier__weight=torch.randn(3, 1024) / 32, classifier__bias=torch.zeros(3)))
    return path


def test_weights_of_a_file_for_a_known_architecture(weights):
    names = {name: shape for name, shape in _shapes(weights).items() if shape[:1] == (3,)}
    row = add_network("mine", "googlenet", weights=weights, classes=CLASSES)
    assert names
    assert (row.layers, row.mean) == (NETWORKS["googlenet"].layers, NETWORKS["googlenet"].mean)
    assert load("mine").logits(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    assert list(RECIPES["classification"](network="mine", size=64).names(load("mine"), torch.rand(1, 3, 64, 64))) != []
    with pytest.raises(FieldError, match="There is no class 'hummingbird'; accepted: 'cat', 'dog', 'hen'"):
        featviz.DeepDream(layer="mine/conv1", class_name="hummingbird")
    with pytest.raises(FieldError, match=r"The classifier in 'my.safetensors' has 3 classes; 2 are named\."):
        add_network("other", "googlenet", weights=weights, classes=["a", "b"])
    with pytest.raises(WeightsError, match=r"'my\.safetensors' has no tensor "):
        add_network("other", "resnet50", weights=weights)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def test_the_command_line_takes_weights_and_reruns_with_them(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(PHOTO, "cat.jpg")
    typed = f"--network=mine=googlenet:{weights}"
    small = ["--device=cpu", "--size=64"]
    dream = ["deepdream", "cat.jpg", "out.png", typed, "--layer=mine/conv3", "--steps=1", "--octaves=1", *small]
    assert cli.main(dream) == 0
    remove_network("mine")
    assert cli.main(["rerun", "out.png", "cat.jpg", "again.png", "--device=cpu"]) == 2
    assert "made with the network 'mine', which is not available here" in capsys.readouterr().err
    assert cli.main(["rerun", "out.png", "cat.jpg", "again.png", "--device=cpu", typed]) == 0
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()
    remove_network("mine")
    assert cli.main(["style-transfer", "cat.jpg", "cat.jpg", "out.png", typed, "--steps=1", "--scales=1", *small]) == 0
    assert featviz.recipe_of("out.png").network == "mine"


# Packages


@pytest.fixture
def install(tmp_path, monkeypatch) -> Callable[[str, str], None]:
    """Writes a package with an entry point of its name to a folder on Python's path."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, source: str, network: str = "") -> None:
        (tmp_path / f"some_{name}.py").write_text(source, encoding="utf-8")
        info = tmp_path / f"featviz_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: featviz-{name}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[featviz.networks]\n{network or name} = some_{name}:network\n", encoding="utf-8")

    return install


def test_the_example_package_adds_a_network_once_it_is_installed(tmp_path, monkeypatch):
    """As pip installs it. The build system is here already, so nothing is downloaded."""
    options = ["-q", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--target", str(tmp_path)]
    package = shutil.copytree(ROOT / "examples" / "network_package", tmp_path / "source")
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(package)], check=True)
    monkeypatch.syspath_prepend(tmp_path)
    networks = table.Table(table.SHIPPED)
    assert networks["vgg19"]
    assert "featviz_gabor" not in sys.modules  # No package is read for a network that comes with featviz.
    assert list(networks) == [*table.SHIPPED, "gabor"]
    assert list(networks["gabor"].layers) == ["fine", "middle", "coarse"]
    network = Network(networks["gabor"], networks["gabor"].build())
    stripes = (torch.arange(64) % 6 < 3).float().expand(1, 3, 64, 64)  # Vertical, as the first two filters.
    strength = network.activations(stripes, ["fine"])["fine"][0, :, 16:48, 16:48].mean((1, 2))
    assert strength.argmax().item() in (0, 1)


def test_a_broken_package_is_logged_and_affects_no_other_network(install, caplog):
    install("broken", "import no_such_module\n")
    install("odd", "network = 3\n")
    install("deep", "network = 3\n", network="a/b")
    networks = table.Table(table.SHIPPED)
    assert list(networks) == [*table.SHIPPED]
    assert sorted(caplog.messages) == [
        "The network 'a/b' of the package 'featviz-deep' cannot be used: A network cannot be called 'a/b'; expected letters, digits, "
        "'_', '-' and '.'.",
        "The network 'broken' of the package 'featviz-broken' cannot be used: No module named 'no_such_module'.",
        "The network 'odd' of the package 'featviz-odd' cannot be used: 'some_odd:network' gives int; expected a NetworkSpec, "
        "as featviz.describe_network makes it.",
    ]
    assert [networks.missing_message(name) for name in ("a/b", "broken", "odd")] == sorted(caplog.messages)


def test_the_documented_python_runs_and_importing_featviz_reads_no_entry_point(tmp_path):
    (code,) = snippets("docs/networks.md", "python")
    watch = (
        "from importlib import metadata\n"
        "original, importing = metadata.entry_points, True\n"
        "def watched(**options):\n"
        "    if options == {'group': 'featviz.networks'}:\n"
        "        assert not importing, 'entry points were read on import'\n"
        "        read.append(options)\n"
        "    return original(**options)\n"
        "metadata.entry_points, read = watched, []\n"
        "import featviz\n"
        "featviz.DeepDream(); featviz.StyleTransfer()\n"
        "importing = False\n"
    )
    run([sys.executable, "-W", "error", "-c", f"{watch}{code}\nassert read"], tmp_path)
    assert (tmp_path / "toy.png").stat().st_size > 1000


class Odd(nn.Module):
    """Two convolutions and parts whose output has no gradient of the image: whole numbers, complex ones, a detached tensor."""

    def __init__(self):
        super().__init__()
        self.input, self.logits = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.whole, self.complex, self.detached = Applied(Tensor.long), Applied(torch.fft.fft2), Applied(Tensor.detach)
        self.named = nn.ModuleDict({"a, b:c": nn.Conv2d(4, 4, 3, padding=1)})

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.named["a, b:c"](self.logits(self.input(image)))
        return {part: getattr(self, part)(features) for part in ("whole", "complex", "detached")}


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.forward = function


def test_layers_have_a_gradient_and_a_name_that_fields_can_hold():
    row = add_network("mine", seeded(Odd))
    assert row.layers == {"input_": "input", "logits_": "logits", "named.a__b_c": "named.a, b:c"}
    image = torch.rand(1, 3, 32, 48)
    activations = load("mine").activations(image, ["input", "input_", "logits_"])
    assert torch.equal(activations["input"], image)  # And not the module of that name.
    assert activations["input_"].shape == activations["logits_"].shape == (1, 4, 32, 48)
    fields = {"style_layers": "logits_: 2, named.a__b_c", "content_layers": "input_"}
    *_, frame = featviz.stream(small(featviz.StyleTransfer, network="mine", **fields), content=PHOTO, style=PHOTO)
    assert math.isfinite(frame.loss)
    with pytest.raises(
        FieldError, match=r"The output of 'whole' is no map .*, but \(1, 4, 192, 256\) without a gradient; accepted:"
    ):
        describe_network(seeded(Odd), layers=["whole"])


def test_a_module_without_gradients_is_refused_in_a_sentence():
    def overwritten(features: Tensor) -> Tensor:
        return features.sigmoid().mul_(2)  # The backward pass of a sigmoid needs its output.

    def not_recorded(features: Tensor) -> Tensor:
        with torch.inference_mode():
            return features * 2

    with pytest.raises(InputError, match=r"The module has no gradient: one of the variables needed .* an inplace operation"):
        describe_network(nn.Sequential(nn.Conv2d(3, 4, 3), Applied(overwritten)))
    with pytest.raises(InputError, match="Sequential has no layer whose output is a map with a gradient"):
        describe_network(nn.Sequential(Applied(not_recorded)))


class Stateful(nn.ReLU):
    """A part with a state that is no tensor, as quantised ones have, and without weights, so that a pass is no work."""

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


def test_a_network_without_weights_and_with_a_state_of_its_own_runs_twice():
    add_network("mine", nn.Sequential(Stateful()))
    recipe = featviz.DeepDream(layer="mine/0", size=64, octaves=1, steps=2)
    first, second = (featviz.run(recipe, image=PHOTO) for _ in range(2))  # The second has an estimate made from the first.
    assert first.tobytes() == second.tobytes()


def test_a_copy_of_a_module_shares_its_memory():
    module = seeded(UNet)
    row = add_network("mine", copy.deepcopy(module))
    parameters = [dict(network.module.named_parameters())["down1.0.weight"] for network in (load("mine"), load_untrained("mine"))]
    assert parameters[0].data_ptr() == parameters[1].data_ptr() == row.weights.module.down1[0].weight.data_ptr()
    assert functional.mse_loss(parameters[0], module.down1[0].weight) == 0
