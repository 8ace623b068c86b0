"""Gabor filters as a network: edges in eight directions at three scales. Nothing is trained or downloaded."""

import math

import torch
from torch import nn

DIRECTIONS, SIDE = 8, 11


def gabor(angle: float, phase: float) -> torch.Tensor:
    """Return a Gabor filter (SIDE, SIDE): a wave of 6 pixels under a Gaussian. Its mean is 0, so constant areas give 0."""
    rows, columns = torch.meshgrid(*(torch.arange(SIDE) - SIDE // 2,) * 2, indexing="ij")
    along = columns * math.cos(angle) + rows * math.sin(angle)
    wave = torch.cos(2 * math.pi * along / 6 + phase) * torch.exp(-(rows**2 + columns**2) / 18)
    return wave - wave.mean()


class Gabor(nn.Module):
    """(B, 3, H, W) → (B, 16, h, w): eight directions in two phases, at three scales, each half of the one before."""

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
    """Return the row that featviz adds under the name of the entry point. Called when the table of networks is first used."""
    import featviz

    return featviz.describe_network(
        Gabor(), title="Gabor filters", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), layers=["fine", "middle", "coarse"]
    )
