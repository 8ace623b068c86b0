"""Measure the spectrum that feature visualization by phases keeps fixed, on natural pictures: `python -m scripts.spectrum`.

Writes a table of a kilobyte: for each of the decorrelated colours the mean magnitude in rings of frequencies, over the pictures of
the atlas. By rings, since a table in two dimensions would record details of these few pictures.
"""

import json

import torch
from PIL import Image

from featviz.media.images import to_tensor
from featviz.optimise.parameterization import NATURAL, Spectrum, frequencies
from featviz.optimise.scaling import size_of
from featviz.runtime.atlas import FOLDER

DARKEST = 0.05
"""Values are clamped to this distance from 0 and 1: the inverse of the sigmoid would make spikes of them, noise at all frequencies."""

RINGS = torch.logspace(-7, -0.5, 27, base=2)
"""Edges of the rings, in cycles per pixel: four in an octave, from waves of 128 pixels to the diagonal of the grid."""

if __name__ == "__main__":
    sums, counts = torch.zeros(3, len(RINGS) - 1), torch.zeros(len(RINGS) - 1)
    for file in sorted((FOLDER / "pictures").glob("*.webp")):
        image = to_tensor(Image.open(file)).clamp(DARKEST, 1 - DARKEST)
        magnitudes = torch.view_as_complex(Spectrum.of(image, decay=0.0).waves.detach())[0].abs()
        ring = torch.bucketize(frequencies(size_of(image)), RINGS) - 1
        inside = (ring >= 0) & (ring < len(counts))
        counts += ring[inside].bincount(minlength=len(counts))
        for plane, values in zip(sums, magnitudes, strict=True):
            plane += ring[inside].bincount(values[inside], minlength=len(counts))
    centres = (RINGS[1:] * RINGS[:-1]).sqrt()
    table = {"frequencies": centres.tolist(), "magnitudes": (sums / counts).tolist()}
    rounded = {
        name: json.loads(json.dumps(values), parse_float=lambda text: float(f"{float(text):.4g}"))
        for name, values in table.items()
    }
    NATURAL.write_text(json.dumps(rounded) + "\n", encoding="utf-8")
    print(NATURAL.name, rounded)
