"""torchvision's architectures as sequences of named modules. Untrained.

torchvision is imported when an architecture needs it, since that takes longer than importing the rest of featviz.
"""

from torch import nn


class Classifier(nn.Sequential):
    """Global average pooling and a linear layer as a 1×1 convolution: logits (B, classes, 1, 1), shaped like other activations."""

    def __init__(self, channels: int, classes: int):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, classes, 1))


def vgg16() -> nn.Sequential:
    """Children `0` … `30`: the convolutions of VGG-16, without its three linear layers."""
    return _vgg(2, 2, 3, 3, 3)


def vgg19() -> nn.Sequential:
    """Children `0` … `36`: the convolutions of VGG-19, without its three linear layers."""
    return _vgg(2, 2, 4, 4, 4)


def _vgg(*convolutions: int) -> nn.Sequential:
    """Build a VGG from the number of convolutions in each block (Simonyan & Zisserman, 2015, Table 1), numbered as torchvision's.

    Not torchvision's own, whose import would take most of the time to load the default network.
    """
    layers, channels = nn.Sequential(), 3
    for block, count in enumerate(convolutions):
        for _ in range(count):
            layers.append(nn.Conv2d(channels, channels := min(64 << block, 512), 3, padding=1)).append(nn.ReLU())
        layers.append(nn.MaxPool2d(2))
    return layers


def inception_v3() -> nn.Sequential:
    """Children `Conv2d_1a_3x3` … `Mixed_7c`, `logits`."""
    from torchvision.models import inception_v3

    return _sequence(inception_v3(weights=None, aux_logits=False, init_weights=False), channels=2048)


def googlenet() -> nn.Sequential:
    """Children `conv1` … `inception5b`, `logits`."""
    from torchvision.models import googlenet

    return _sequence(googlenet(weights=None, aux_logits=False, init_weights=False), channels=1024)


def resnet50() -> nn.Sequential:
    """Children `conv1`, `bn1`, `relu`, `maxpool`, `layer1_0` … `layer4_2`, `logits`."""
    from torchvision.models import resnet50

    return _sequence(resnet50(weights=None), channels=2048)


def _sequence(model: nn.Module, channels: int) -> nn.Sequential:
    """Return the children of a sequential model up to its global average pooling, and a `Classifier` as `logits`.

    A stage, which is a sequence itself, is replaced by its blocks: `layer1` → `layer1_0`, `layer1_1`, …
    """
    layers = nn.Sequential()
    for name, module in model.named_children():
        if isinstance(module, nn.AdaptiveAvgPool2d):
            break
        blocks = {f"{name}_{i}": block for i, block in module.named_children()} if isinstance(module, nn.Sequential) else {}
        for child, part in (blocks or {name: module}).items():
            layers.add_module(child, part)
    layers.add_module("logits", Classifier(channels, 1000))
    return layers
