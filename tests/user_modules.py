"""Modules that stand for a user's networks: one of each family, with random weights."""

from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.resnet import BasicBlock

from featviz.networks.table import NetworkSpec
from featviz.networks.user_network import add_network

CLASSES = ["cat", "dog", "hen"]


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
    "resnet": lambda: models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3, width_per_group=64),
    "convnext": lambda: models.ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)], num_classes=3),
    "mobilenet_v3": lambda: models.MobileNetV3(
        [
            InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1),
            InvertedResidualConfig(16, 5, 32, 24, True, "HS", 2, 1, 1),
            InvertedResidualConfig(24, 5, 32, 24, False, "HS", 1, 1, 1),
        ],
        32,
        num_classes=3,
    ),
    "vit": lambda: models.VisionTransformer(64, 16, 2, 2, 32, 64, num_classes=3),
    "timm_resnet": lambda: timm.create_model("resnet10t", channels=(8, 16, 24, 32), stem_width=8, num_classes=3),
    "timm_convnext": lambda: timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=3),
    "timm_mobilenet_v3": lambda: timm.create_model("mobilenetv3_small_050", num_classes=3),
    "timm_vit": lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2, embed_dim=32, num_heads=2, num_classes=3),
    "unet": UNet,
    "toy": Toy,
}
"""Family of architectures → a small member with random weights."""


def add_tiny(**settings: object) -> NetworkSpec:
    """Add a seeded `UNet` as the network "tiny". `settings` go to `add_network`."""
    return add_network("tiny", seeded(UNet), **settings)
