"""Networks of the user's: every family, every recipe, and what is measured of them against the slow way."""

import copy
import json
import math
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
from loopback_hub import as_file, torchvision_model
from snippets import ROOT, run, snippets
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import BasicBlock

import featviz
from featviz import cli
from featviz.errors import FieldError, InputError, WeightsError
from featviz.networks import table
from featviz.networks.cache import load, load_untrained
from featviz.networks.network import Network
from featviz.networks.table import INPUT, NETWORKS, ChannelsLast, NetworkSpec, Tokens
from featviz.networks.user_network import add_network, describe_network, remove_network
from featviz.optimise import tiles
from featviz.optimise.scaling import size_of
from featviz.recipes import metadata
from featviz.recipes.recipe import choices
from featviz.recipes.style_transfer import StyleTransfer
from featviz.recipes.table import RECIPES
from featviz.runtime.estimate import estimate
from featviz.ui.controls import control

CLASSES = ["cat", "dog", "hen"]

PHOTO = ROOT / "examples" / "cat.jpg"


class UNet(nn.Module):
    """Down twice and up twice, once by a transposed convolution and once by interpolation, with in-place ReLUs."""

    def __init__(self, width: int = 6):
        super().__init__()
        self.down1, self.down2, self.bottom = self.unit(3, width), self.unit(width, 2 * width), self.unit(2 * width, 4 * width)
        self.pool = nn.MaxPool2d(2)
        self.up2, self.mix2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), self.unit(4 * width, 2 * width)
        self.up1, self.mix1 = nn.Upsample(scale_factor=2), self.unit(3 * width, width)

    def unit(self, channels_in: int, channels_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)
        )

    def forward(self, image: Tensor) -> Tensor:
        fine = self.down1(image)
        middle = self.down2(self.pool(fine))
        middle = self.mix2(torch.cat([self.up2(self.bottom(self.pool(middle))), middle], 1))
        return self.mix1(torch.cat([self.up1(middle), fine], 1))


class Toy(nn.Module):
    """What people write: a batch norm after the ReLU, sums in place, `view`, and a classifier of one size."""

    def __init__(self, side: int = 64):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 5, stride=2, padding=2), nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6 * (side // 2) ** 2, len(CLASSES))

    def forward(self, image: Tensor) -> Tensor:
        features = self.first(image)
        features.relu_()
        features = self.norm(features)
        total = self.second(features)
        total += features
        return self.head(total.view(len(total), -1))


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """A module with random weights, and statistics of batches that are not those of a fresh one."""
    torch.manual_seed(0)
    module = build()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.2, 0.2)
            part.running_var.uniform_(0.5, 1.5)
    return module


FAMILY: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3),
    "convnext": lambda: models.ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)], num_classes=3),
    "mobilenet_v3": lambda: models.mobilenet_v3_small(num_classes=3),
    "vit": lambda: models.VisionTransformer(64, 16, 2, 2, 32, 64, num_classes=3),
    "timm_resnet": lambda: timm.create_model("resnet10t", num_classes=3),
    "timm_convnext": lambda: timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=3),
    "timm_mobilenet_v3": lambda: timm.create_model("mobilenetv3_small_050", num_classes=3),
    "timm_vit": lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2, embed_dim=32, num_heads=2, num_classes=3),
    "unet": UNet,
    "toy": Toy,
}

FIXED = {"vit": 64, "timm_vit": 64, "toy": 64}
SEE_EVERYTHING = {"mobilenet_v3", "vit", "timm_mobilenet_v3", "timm_vit", "toy"}

SMALL = {
    "deepdream": {"size": 64, "octaves": 2, "steps": 1, "class_name": "dog"},
    "deepdream_zoom": {"size": 64, "octaves": 1, "steps": 1, "seconds": 0.1, "fps": 10},
    "style_transfer": {"size": 64, "scales": 1, "steps": 1},
    "activation_maps": {"size": 64, "count": 2},
    "classification": {"size": 64},
    "feature_visualization": {"size": 64, "steps": 2, "channel": 1},
    "reconstruct_content": {"size": 64, "steps": 1},
    "reconstruct_style": {"size": 64, "steps": 1, "layers": 1},
}


@pytest.fixture(autouse=True)
def _only_shipped() -> Iterator[None]:
    yield
    for name in [name for name in NETWORKS if name not in table.SHIPPED]:
        remove_network(name)


def tiny(**changes: object) -> NetworkSpec:
    return add_network("tiny", seeded(UNet), **changes)


# Every family, every recipe


@pytest.mark.parametrize("family", FAMILY)
def test_every_recipe_runs_and_gradients_are_those_of_plain_autograd(family):
    module = seeded(FAMILY[family])
    row = add_network("mine", module, classes=None if family == "unet" else CLASSES)
    layers = list(row.layers)
    assert row.fixed_size == FIXED.get(family)
    network = load("mine")
    for layer in (layers[0], layers[len(layers) // 2], layers[-1]):
        ours, plain = gradients(network, module.eval().requires_grad_(False), row, layer)
        assert ours.abs().sum() > 0
        assert torch.allclose(ours, plain, rtol=1e-3, atol=1e-4 * plain.abs().max().item()), layer
    assert network.tiled([layers[-1]]) == (family not in SEE_EVERYTHING)
    for name, kind in RECIPES.items():
        if family == "unet" and name == "classification":
            continue
        given = {field: f"mine/{row.content_layer}" for field in ("layer",) if field in kind.model_fields}
        given |= {field: "mine" for field in ("network",) if field in kind.model_fields}
        small = {field: value for field, value in SMALL[name].items() if family != "unet" or field != "class_name"}
        recipe = kind(**given, **small)
        frames = list(featviz.stream(recipe, device="cpu", **dict.fromkeys(kind.images, PHOTO)))
        assert frames[-1].done
        assert math.isfinite(frames[-1].loss)
        assert estimate(recipe, (64, 48) if kind.images else None, device="cpu").bytes > 0


def gradients(network: Network, module: nn.Module, row: NetworkSpec, layer: str) -> tuple[Tensor, Tensor]:
    """Of ½‖a‖² with respect to an image: ours, and by one hook and nothing else."""
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    seen = [image.clone().requires_grad_() for _ in range(2)]
    outputs: list[Tensor] = []
    handle = dict(module.named_modules())[row.layers[layer]].register_forward_hook(
        lambda *given: outputs.append(given[2].clone())
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (row.mean, row.std))
    module((seen[1] - mean) / std)
    handle.remove()
    plain, ours = outputs[0], network.activations(seen[0], [layer])[layer]
    if isinstance(layout := row.layouts.get(layer), Tokens):  # Row by row, after the class token.
        assert layout.extra == 1
        plain = plain[:, 1:].transpose(1, 2).reshape(1, -1, 4, 4)
    elif layout == ChannelsLast():
        plain = plain.permute(0, 3, 1, 2)
    assert torch.allclose(ours, plain, rtol=1e-3, atol=1e-4 * plain.abs().max().item())
    return tuple(torch.autograd.grad(values.square().sum() / 2, one)[0] for values, one in zip((ours, plain), seen, strict=True))


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
    before = network.trunk.calls
    network.activations(image, ["one"], continued=True)
    assert network.trunk.calls == before
    network.trunk.broken = True
    with pytest.raises(RuntimeError, match="broken"):
        network.activations(image, ["two"], continued=True)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.trunk.modules())


def test_passes_in_several_threads_do_not_disturb_each_other():
    row = tiny()
    network, image = load("tiny"), torch.rand(1, 3, 32, 32)
    alone = {layer: network.activations(image, [layer])[layer] for layer in row.layers}
    wrong = []

    def ask(layer: str) -> None:
        wrong.extend(layer for _ in range(10) if not torch.equal(network.activations(image, [layer])[layer], alone[layer]))

    threads = [threading.Thread(target=ask, args=(layer,)) for layer in list(row.layers)[::4]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_module_itself_is_left_alone_and_its_later_training_is_not_seen():
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
    assert not any(parameter.requires_grad for parameter in network.trunk.parameters())


@pytest.mark.parametrize("family", ["resnet", "unet", "convnext"])
def test_beyond_the_border_the_image_continues(family):
    row = add_network("mine", seeded(FAMILY[family]))
    first = next(iter(row.layers))
    image = torch.full((1, 3, 64, 64), 0.9)
    plain, continued = (load("mine").activations(image, [first], continued=continued)[first] for continued in (False, True))
    assert continued.shape == plain.shape
    assert torch.allclose(continued, continued[..., 3:4, 3:4].expand_as(continued), atol=1e-4)


# What is measured


@pytest.mark.parametrize("family", ["unet", "resnet", "convnext"])
def test_a_unit_sees_no_further_than_was_measured_and_nearly_as_far(family):
    """Against the slow way: every pixel column in turn is changed, and the units that change are looked at."""
    row = add_network("mine", seeded(FAMILY[family]))
    network, width = load("mine"), 96
    layers = [row.content_layer] if family != "unet" else ["bottom.2", "mix2.2", "mix1.2"]
    image = torch.rand(1, 3, 32, width).expand(width, -1, -1, -1).clone()
    for column in range(width):
        image[column, ..., column] = torch.nan
    with torch.no_grad():
        maps = network.activations(image, layers)
    for layer in layers:
        receptive_field, seeing = network.receptive_field(layer), maps[layer].isnan().any(1).any(1)  # (pixel column, unit column)
        assert math.isfinite(receptive_field.field[1])
        for unit in range(seeing.shape[1]):
            columns = seeing[:, unit].nonzero().flatten()
            assert receptive_field.first[1] + unit * receptive_field.stride <= columns.min()
            assert columns.max() <= receptive_field.last[1] + unit * receptive_field.stride
        widest = (seeing.sum(0)).max().item()
        assert (
            receptive_field.field[1] <= widest + 8 + 2 * receptive_field.stride or widest > width // 2
        )  # 8: what two poolings shift.


def test_tiles_give_what_the_whole_picture_gives_through_a_u_net():
    tiny()
    network, image = load("tiny"), torch.rand(1, 3, 200, 260)
    layers = ["down2", "bottom", "mix2", "mix1"]
    with torch.no_grad():
        whole, pieces = (tiles.activations_of(network, image, layers, side, continued=True) for side in (1000, 128))
    for layer in layers:
        assert torch.allclose(pieces[layer], whole[layer], atol=1e-4 * whole[layer].abs().max().item()), layer


def test_a_layer_that_sees_everything_is_never_tiled_and_this_is_said(monkeypatch):
    add_network("mine", seeded(FAMILY["mobilenet_v3"]))
    network = load("mine")
    assert network.tiled(["features.0"])
    assert not network.tiled(["features.0", "features.12"])
    monkeypatch.setattr(tiles, "SMALLEST", 32)
    monkeypatch.setattr(tiles, "largest", lambda *_: 32)
    cut = []
    monkeypatch.setattr(tiles, "_cuts", lambda length, side, margin: cut.append(length > side) or [(0, length)])
    image = torch.rand(1, 3, 64, 80)
    for recipe in (
        featviz.DeepDream(layer="mine/features.12", size=80, octaves=1, steps=1),
        StyleTransfer(network="mine", style_layers="features.12", size=80, scales=1, steps=1),
    ):
        given = {"content": image, "style": image} if isinstance(recipe, StyleTransfer) else {"image": image}
        (frame,) = recipe.run(network, **given)
        assert frame.stage.endswith(", in one piece, since its layers see the whole picture")
    assert cut
    assert not any(cut)
    next(featviz.DeepDream(layer="mine/features.0", size=80, octaves=1, steps=1).run(network, image=image))
    assert any(cut)


def test_sides_that_a_u_net_does_not_take_are_padded_and_cut_off_again():
    assert tiny().multiple == 4
    found = load("tiny").activations(torch.rand(1, 3, 45, 50), ["down1", "bottom", "mix1", INPUT])
    assert [size_of(found[layer]) for layer in ("down1", "bottom", "mix1", INPUT)] == [(45, 50), (12, 13), (45, 50), (45, 50)]


def test_a_mask_reaches_the_layers_of_a_network_of_one_size():
    add_network("mine", seeded(FAMILY["vit"]))
    image, mask = torch.rand(1, 3, 90, 120), torch.zeros(1, 3, 90, 120)
    mask[..., :60] = 1
    recipe = StyleTransfer(network="mine", size=120, scales=1, steps=1, feather=0)
    (frame,) = recipe.run(load("mine"), content=image, style=torch.rand(1, 3, 64, 64), mask=mask)
    assert torch.equal(frame.image[..., 60:], image[..., 60:])
    assert not torch.equal(frame.image[..., :60], image[..., :60])


def test_windows_of_attention_that_do_not_fit_the_tiles_are_not_tiled():
    swin = models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [7, 7])
    row = add_network("mine", seeded(lambda: swin), layers=["features.0", "features.1", "features.3"])
    assert set(row.layouts.values()) == {ChannelsLast()}
    assert [load("mine").tiled([layer]) for layer in row.layers] == [True, False, False]


def test_a_module_that_refuses_nan_is_not_tiled():
    class Strict(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Conv2d(3, 4, 3)

        def forward(self, image):
            if image.isnan().any():
                raise ValueError("NaN")
            return self.one(image)

    add_network("mine", Strict())
    assert not load("mine").tiled(["one"])


def test_cost_and_channels_are_those_of_the_layer():
    tiny(layers={"stem": "down1.0"})
    assert load("tiny").channels("stem") == 6
    assert load_untrained("tiny").cost(["stem"]).flops == 2 * 2 * 3 * 3 * 3 * 6


# The table


def test_layers_may_be_chosen_and_named_and_come_in_order_of_execution():
    row = tiny(layers={"deep": "bottom", "shallow": "down1"})
    assert list(row.layers.items()) == [("shallow", "down1"), ("deep", "bottom")]
    assert {row.content_layer, *row.style_layers} <= {INPUT, *row.layers}


def test_surfaces_made_afterwards_have_the_new_network():
    field = featviz.DeepDream.model_fields["layer"]
    before = choices(field)
    tiny(layers=["down1"])
    assert choices(field) == (*before, "tiny/down1")
    assert ("tiny · down1", "tiny/down1") in control("layer", field).choices
    assert "tiny" in choices(featviz.StyleTransfer.model_fields["network"])
    assert "tiny" not in choices(RECIPES["classification"].model_fields["network"])  # It has no classes.
    remove_network("tiny")
    assert choices(field) == before
    with pytest.raises(FieldError, match="There is no layer 'tiny/down1'; "):
        featviz.DeepDream(layer="tiny/down1")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"name": "vgg19"}, "There is a network 'vgg19' already; choose another name"),
        ({"name": "a/b"}, "A network cannot be called 'a/b'; expected letters, digits"),
        ({"mean": (0.5, 0.5)}, r"mean is \(0.5, 0.5\); expected three numbers, of red, green and blue"),
        ({"std": (0.5, 0, 0.5)}, r"std is \(0.5, 0, 0.5\); expected three positive numbers"),
        ({"mean": "abc"}, "mean is abc; expected three numbers"),
        ({"layers": ["down3"]}, "UNet has no module 'down3'; did you mean 'down"),
        ({"layers": []}, "layers is empty"),
        ({"classes": ["a", "b"]}, r"2 classes are named; the module's output for an image is \(1, 6, 192, 256\)"),
        ({"network": nn.Linear(3, 4)}, r"does not run on an image \(1, 3, 224, 224\), nor on other sizes: mat1 and mat2"),
        ({"network": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())}, "Sequential has no layer whose output is a map"),
        ({"network": 3}, "add_network takes a module, or the name of an architecture"),
        ({"network": "resnet51", "weights": "x.safetensors"}, "There is no architecture 'resnet51'; did you mean 'resnet50'"),
        ({"network": "resnet50", "weights": "no.safetensors"}, "The weights 'no.safetensors' cannot be read: No such file"),
    ],
)
def test_what_cannot_be_added_is_said_in_a_sentence(given, sentence):
    given = {"name": "mine", "network": UNet(), **given}
    with pytest.raises((InputError, WeightsError), match=sentence):
        add_network(given.pop("name"), given.pop("network"), **given)
    assert "mine" not in NETWORKS


def test_a_layer_without_a_map_is_refused_with_what_it_has():
    with pytest.raises(
        FieldError, match=r"The output of 'head' is no map \(B, C, h, w\), but \(1, 3\); accepted: 'first', 'norm'"
    ):
        add_network("mine", seeded(Toy), layers=["head"], classes=CLASSES)


def test_what_came_with_featviz_is_not_removed_and_what_is_not_there_is_said():
    with pytest.raises(FieldError, match="The network 'vgg19' belongs to featviz"):
        remove_network("vgg19")
    with pytest.raises(FieldError, match="There is no network 'tinny'; "):
        remove_network("tinny")


# Where a picture comes from


def test_a_picture_knows_its_network_and_without_it_this_is_one_sentence(tmp_path):
    tiny()
    recipe = featviz.DeepDream(layer="tiny/bottom", size=64, octaves=1, steps=1)
    featviz.save(featviz.run(recipe, image=PHOTO), tmp_path / "out.png")
    note = json.loads(metadata.find(tmp_path / "out.png"))
    assert note["network"] == "tiny"
    assert re.fullmatch("[0-9a-f]{64}", note["weights"])
    assert note["weights"] == describe_network(seeded(UNet)).weights.expected
    assert featviz.recipe_of(tmp_path / "out.png") == recipe
    remove_network("tiny")
    with pytest.raises(InputError, match=r"made with the network 'tiny', which is not here; featviz\.add_network adds"):
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
    with pytest.raises(FieldError, match=r"The classifier in 'my.safetensors' tells 3 classes apart; 2 are named\."):
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
    assert "made with the network 'mine', which is not here" in capsys.readouterr().err
    assert cli.main(["rerun", "out.png", "cat.jpg", "again.png", "--device=cpu", typed]) == 0
    assert Path("again.png").read_bytes() == Path("out.png").read_bytes()
    remove_network("mine")
    assert cli.main(["style-transfer", "cat.jpg", "cat.jpg", "out.png", typed, "--steps=1", "--scales=1", *small]) == 0
    assert featviz.recipe_of("out.png").network == "mine"
    for bad in ("mine", "mine=googlenet", "=googlenet:x"):
        assert cli.main(["deepdream", "cat.jpg", "out.png", f"--network={bad}"]) == 2
    assert "--network is 'mine'; expected NAME=ARCHITECTURE:FILE" in capsys.readouterr().err


# Packages


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Callable[[str, str, str], None]:
    """Puts a package with an entry point where Python finds it, as an installer would."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(table, "NETWORKS", NETWORKS)

    def install(package: str, points: str, source: str) -> None:
        module = points.partition("= ")[2].partition(":")[0].strip()
        (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
        info = tmp_path / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[{table.GROUP}]\n{points}\n", encoding="utf-8")

    return install


def test_a_package_brings_a_network_and_a_broken_one_takes_nothing_down(installed, caplog):
    example = ROOT / "examples" / "network_package"
    points = re.search(
        r'^\[project\.entry-points\."featviz\.networks"\]\n(.+)$', (example / "pyproject.toml").read_text(), re.MULTILINE
    )[1].replace('"', "")
    installed("featviz-gabor", points, (example / "featviz_gabor.py").read_text(encoding="utf-8"))
    installed("featviz-broken", "broken = some_broken:network", "import no_such_module\n")
    installed("featviz-odd", "odd = some_odd:network", "network = 3\n")
    networks = table.Table(table.SHIPPED)
    assert "featviz_gabor" not in sys.modules
    assert networks["vgg19"]  # What is shipped is there without a look at packages.
    assert "featviz_gabor" not in sys.modules
    assert list(networks) == [*table.SHIPPED, "gabor"]
    assert list(networks["gabor"].layers) == ["fine", "middle", "coarse"]
    assert sorted(caplog.messages) == [
        "The network 'broken' of the package 'featviz-broken' cannot be used: No module named 'no_such_module'.",
        "The network 'odd' of the package 'featviz-odd' cannot be used: 'some_odd:network' gives int; expected a NetworkSpec, "
        "as featviz.describe_network makes it.",
    ]
    assert table.missing("broken") == "The network 'broken' of the package 'featviz-broken' cannot be used: " + (
        "No module named 'no_such_module'."
    )
    network = Network(table["gabor"], table["gabor"].build())
    stripes = (torch.arange(64) % 6 < 3).float().expand(1, 3, 64, 64)  # Upright ones, so edges along the rows.
    strength = network.activations(stripes, ["fine"])["fine"][0, :, 16:48, 16:48].mean((1, 2))
    assert strength.argmax().item() in (0, 1)


def test_importing_featviz_looks_for_no_package():
    code = (
        "from importlib import metadata\n"
        "look = metadata.entry_points\n"
        "def watched(**given):\n"
        "    if given == {'group': 'featviz.networks.table'}: raise SystemExit('looked for packages')\n"
        "    return look(**given)\n"
        "metadata.entry_points = watched\n"
        "import featviz\n"
        "featviz.DeepDream(); featviz.StyleTransfer()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_document_s_python_runs_as_typed(tmp_path):
    (code,) = snippets("docs/networks.md", "python")
    run([sys.executable, "-W", "error", "-c", code], tmp_path)
    assert (tmp_path / "toy.png").stat().st_size > 1000


def test_a_copy_of_a_module_shares_its_memory():
    module = seeded(UNet)
    row = add_network("mine", copy.deepcopy(module))
    parameters = [dict(network.trunk.named_parameters())["down1.0.weight"] for network in (load("mine"), load_untrained("mine"))]
    assert parameters[0].data_ptr() == parameters[1].data_ptr() == row.weights.module.down1[0].weight.data_ptr()
    assert functional.mse_loss(parameters[0], module.down1[0].weight) == 0
