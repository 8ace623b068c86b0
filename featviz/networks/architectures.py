"""torchvision's architectures as sequences of named modules, which can be run up to any of them. Untrained.

torchvision is imported where one is built that has to be, since that takes longer than the rest of featviz.
"""

from torch import nn


class Classifier(nn.Sequential):
    """Average over all positions, then one linear layer: logits as (B, classes, 1, 1), so that they look like any activations."""

    def __init__(self, channels: int, classes: int):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, classes, 1))


def vgg16() -> nn.Sequential:
    """Children `0` … `30`: the convolutions of VGG-16, without its three linear layers."""
    return _vgg(2, 2, 3, 3, 3)


def vgg19() -> nn.Sequential:
    """Children `0` … `36`: the convolutions of VGG-19, without its three linear layers."""
    return _vgg(2, 2, 4, 4, 4)


def _vgg(*convolutions: int) -> nn.Sequential:
    """So many convolutions in each block (Simonyan & Zisserman, 2015, Table 1), with torchvision's numbers.

    Spelt out, since importing torchvision would take most of the time until the default network is there.
    """
    trunk, channels = nn.Sequential(), 3
    for block, count in enumerate(convolutions):
        for _ in range(count):
            trunk.append(nn.Conv2d(channels, channels := min(64 << block, 512), 3, padding=1)).append(nn.ReLU())
        trunk.append(nn.MaxPool2d(2))
    return trunk


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
    """The children of a model that runs them one after the other, up to where it averages; ours classify from there.

    A stage, which is a sequence itself, becomes its blocks: `layer1` → `layer1_0`, `layer1_1`, …
    """
    trunk = nn.Sequential()
    for name, module in model.named_children():
        if isinstance(module, nn.AdaptiveAvgPool2d):
            break
        blocks = {f"{name}_{i}": block for i, block in module.named_children()} if isinstance(module, nn.Sequential) else {}
        for child, part in (blocks or {name: module}).items():
            trunk.add_module(child, part)
    trunk.add_module("logits", Classifier(channels, 1000))
    return trunk
