"""Convert video with high dynamic range (ITU-R BT.2100) or wide gamut (BT.2020) to sRGB, as NumPy arrays."""

import numpy as np

PQ, HLG = 16, 18
"""Codes of the HDR transfer characteristics (ITU-T H.273)."""

REFERENCE_WHITE, PEAK = 203.0, 1000.0
"""Luminance in cd/m²: of reference white (ITU-R BT.2408), and of the display that most HDR video is graded for."""

TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)
"""Matrix (3, 3) from linear BT.2020 RGB to linear BT.709 RGB (ITU-R BT.2087-0)."""

LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
"""Weights of linear BT.2020 RGB in luminance (ITU-R BT.2020)."""


def to_srgb(codes: np.ndarray, transfer: int) -> np.ndarray:
    """Return BT.2020 R'G'B' codes (H, W, 3) in [0, 1] as sRGB (H, W, 3), uint8.

    `PQ` and `HLG` are tone-mapped with the extended curve of Reinhard et al. (Photographic Tone Reproduction, 2002, eq. 4),
    which maps `PEAK` to white. All three channels are scaled by the factor of the largest one, which preserves hue. Any other
    `transfer` is treated as standard dynamic range with the sRGB curve, and only the primaries are converted.
    """
    codes = codes.astype(np.float32)
    if transfer == PQ:
        light = _pq(codes) / REFERENCE_WHITE
    elif transfer == HLG:
        scene = _hlg(codes)
        light = scene * (scene @ LUMINANCE)[..., None] ** 0.2 * (PEAK / REFERENCE_WHITE)  # System gamma of 1.2 (BT.2100).
    else:
        light = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    light = np.maximum(light @ TO_BT709.T, 0)  # Clip colours outside the BT.709 gamut.
    if transfer in (PQ, HLG):
        largest = light.max(-1, keepdims=True)
        light *= (1 + largest / (PEAK / REFERENCE_WHITE) ** 2) / (1 + largest)
    light = np.minimum(light, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)


def _pq(codes: np.ndarray) -> np.ndarray:
    """Return the luminance of PQ codes in cd/m², at most 10,000 (SMPTE ST 2084)."""
    power = codes ** (32 / 2523)
    return 10_000 * (np.maximum(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (8192 / 1305)


def _hlg(codes: np.ndarray) -> np.ndarray:
    """Return the linear scene light of HLG codes, in [0, 1] (ARIB STD-B67)."""
    return np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - 0.55991073) / 0.17883277) + 0.28466892) / 12)
