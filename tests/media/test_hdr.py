"""Tone mapping, by the formulas of the standards."""

import numpy as np
import pytest

from featviz.media.hdr import HLG, PQ, to_srgb


def pq(luminance: np.ndarray) -> np.ndarray:
    """cd/m² → code, by SMPTE ST 2084's own constants."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = (luminance / 10_000) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def hlg(scene: np.ndarray) -> np.ndarray:
    """Light of the scene → code, by ARIB STD-B67."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def grey(codes: np.ndarray) -> np.ndarray:
    return np.repeat(codes.reshape(-1, 1, 1), 3, axis=2)


def test_pq_and_hlg_agree_on_the_same_light():
    scene = np.linspace(0, 1, 50)
    assert np.array_equal(to_srgb(grey(hlg(scene)), HLG), to_srgb(grey(pq(1000 * scene**1.2)), PQ))


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_brighter_stays_brighter_and_grey_stays_grey(transfer):
    shown = to_srgb(grey(np.linspace(0, 1, 500)), transfer).astype(int)
    assert (np.diff(shown, axis=0) >= 0).all()
    assert np.ptp(shown, axis=-1).max() <= 1
    assert (shown[0].max(), shown[-1].min()) == (0, 255)


def test_hues_are_kept_where_light_is_compressed():
    orange = np.array([400.0, 200, 40])  # cd/m², in BT.709's primaries.
    wide = np.linalg.inv([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]) @ orange
    shown = to_srgb(pq(wide)[None, None], PQ)[0, 0] / 255
    light = ((shown + 0.055) / 1.055) ** 2.4
    assert light / light[0] == pytest.approx(orange / orange[0], abs=0.01)


def test_standard_range_keeps_greys_and_extremes():
    codes = np.linspace(0, 1, 256)
    assert np.array_equal(to_srgb(grey(codes), 1), np.rint(255 * grey(codes)).astype(np.uint8))
