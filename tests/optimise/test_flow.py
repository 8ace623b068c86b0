"""Optical flow, on clips whose motion is known exactly."""

import pytest
import torch

from benchmarks.clips import CLIPS, Clip
from featviz.optimise.flow import Motion, motion


def moved(clip: Clip, number: int = 1) -> Motion:
    return motion(clip.frames[number - 1], clip.frames[number])


@pytest.mark.parametrize(("name", "pixels"), [("pan", 0.15), ("zoom", 0.3), ("turn", 0.25), ("cut-out", 0.25), ("noise", 0.2)])
def test_the_motion_is_found_where_it_is_visible(name, pixels):
    clip = CLIPS[name](2, 1.0)
    found, true = moved(clip), clip.motions[1]
    seen = (found.visible * true.visible)[0, 0]
    error = ((found.rows - true.rows).square() + (found.columns - true.columns).square()).sqrt()
    assert (error * seen).sum() / seen.sum() < pixels
    assert seen.sum() > 0.85 * true.visible.sum()
    assert not found.is_cut


def test_what_comes_in_at_the_border_was_not_visible_before():
    clip = CLIPS["pan"](2, 1.0)
    hidden = clip.motions[1].visible == 0
    assert hidden.any()
    assert moved(clip).visible[hidden].max() == 0


def test_background_that_is_uncovered_was_not_visible_before():
    clip = CLIPS["cut-out"](2, 3.0)
    visible, hidden = moved(clip).visible, clip.motions[1].visible == 0
    assert visible[hidden].mean() < 0.3 < 0.9 < visible[~hidden].mean()


def test_a_cut_is_found_and_only_there():
    clip = CLIPS["cut"](6, 1.0)
    assert [moved(clip, number).is_cut for number in range(1, 6)] == [it is None for it in clip.motions[1:]]


def test_motion_at_a_size_above_that_of_the_flow_is_in_pixels_of_the_image():
    shifted = torch.nn.functional.interpolate(CLIPS["pan"](1, 1.0).frames[0], (500, 700), mode="bicubic").clamp(0, 1)
    before, after = shifted[..., :620], shifted[..., 6:626]
    found = motion(before, after)
    right = found.columns - torch.arange(620)
    assert right[found.visible[0, 0] > 0].median() == pytest.approx(6, abs=0.3)
    assert found.rows.shape == (500, 620)
