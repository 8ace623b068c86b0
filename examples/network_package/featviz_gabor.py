"""Gabor filters as a network: edges in eight directions at three sizes. Nothing is trained, so nothing is downloaded."""

import math

import torch
from torch import nn

DIRECTIONS, SIDE = 8, 11


def gabor(angle: float, phase: float) -> torch.Tensor:
    """A wave of 6 pixels in a direction, under a Gaussian, (SIDE, SIDE); without its mean, so that even areas give 0."""
    rows, columns = torch.meshgrid(*(torch.arange(SIDE) - SIDE // 2,) * 2, indexing="ij")
    along = columns * math.cos(angle) + rows * math.sin(angle)
    wave = torch.cos(2 * math.pi * along / 6 + phase) * torch.exp(-(rows**2 + columns**2) / 18)
    return wave - wave.mean()


class Gabor(nn.Module):
    """(B, 3, H, W) → (B, 16, h, w) at each of three sizes, each half of the last: eight directions, in two phases."""

    def __init__(self):
        super().__init__()
        filters = [gabor(math.pi * i / DIRECTIONS, phase) for i in range(DIRECTIONS) for phase in (0, math.pi / 2)]
        self.filters = nn.Parameter(torch.stack(filters).unsqueeze(1).repeat(1, 3, 1, 1) / 3)
        self.shrink = nn.AvgPool2d(2)
        self.fine, self.middle, self.coarse = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, image):
        for relu in (self.fine, self.middle, self.coarse):
            edges = relu(nn.functional.conv2d(image, self.filters, padding=SIDE // 2))
            image = self.shrink(image)
        return edges


def network():
    """The row that featviz adds under the entry point's name. Called at the first look at the table of networks."""
    import featviz

    return featviz.describe_network(
        Gabor(), title="Gabor filters", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), layers=["fine", "middle", "coarse"]
    )
