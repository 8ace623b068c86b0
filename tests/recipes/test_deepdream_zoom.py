"""Zoom on a bundled network: every picture is a dream of the one before, moved."""

from itertools import pairwise

import av
import numpy as np
import pytest
import torch

from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.optimise.colours import colour_statistics, hold_colours
from featviz.optimise.transforms import Zoom
from featviz.recipes import metadata, presets
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.deepdream_zoom import DeepDreamZoom
from featviz.recipes.recipe import Frame
from featviz.recipes.table import RECIPES
from featviz.runtime.film import film

FILE = presets.FOLDER / "mountain.jpg"
MOUNTAIN = to_tensor(open_picture(FILE))
QUICK = {"size": 96, "octaves": 2, "steps": 1, "seconds": 0.5, "fps": 8}


def frames(recipe: DeepDreamZoom, **images: torch.Tensor) -> list[Frame]:
    return list(recipe.run(load(recipe.network_name), **{"image": MOUNTAIN, **images}))


def pictures(recipe: DeepDreamZoom) -> list[torch.Tensor]:
    return [frame.image for frame in frames(recipe) if frame.is_video_frame]


def likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    """Correlation of the middles, where no border plays a part."""
    height, width = (side // 4 for side in one.shape[-2:])
    middles = [image[..., height:-height, width:-width].flatten() for image in (one, other)]
    return torch.corrcoef(torch.stack(middles))[0, 1].item()


def test_every_frame_is_bit_for_bit_the_dream_of_the_moved_previous_frame():
    """Against the slow way, by DeepDream itself: nothing is rounded on the way, and each has its own seed."""
    fields = {"layer": "efficientnet_lite0/block5", "size": 96, "octaves": 2, "steps": 2, "strength": 2.0}
    made = pictures(DeepDreamZoom(**fields, seconds=0.5, fps=6, zoom=2.0, turn=30, seed=5))
    assert len(made) == 3
    image = MOUNTAIN
    for number, picture in enumerate(made):
        *_, frame = DeepDream(**fields, seed=5 + number).run(load("efficientnet_lite0"), image=image)
        assert torch.equal(picture, hold_colours(frame.image, colour_statistics(made[0])) if number else frame.image)
        image = Zoom(2 ** (1 / 6), 30 / 6)(picture)


def test_frames_count_steps_and_work_and_show_a_finished_picture_from_the_second_on():
    seen = frames(DeepDreamZoom(**QUICK))
    assert [frame.step for frame in seen] == list(range(1, 9))
    assert {frame.steps for frame in seen} == {8}
    assert [frame.stage for frame in seen] == [f"frame {number} of 4" for number in (1, 1, 2, 2, 3, 3, 4, 4)]
    assert [frame.is_video_frame for frame in seen] == [False, True] * 4
    assert [frame.work for frame in seen] == sorted(frame.work for frame in seen)
    assert seen[-1].work == 1
    assert seen[0].image.shape != seen[1].image.shape == (1, 3, 64, 96)  # The first dream is shown as it grows.
    assert all(torch.equal(frame.image, before.image) for before, frame in zip(seen[1::2], seen[2::2], strict=False))
    assert all(frame.image.min() >= 0 and frame.image.max() <= 1 and not frame.image.requires_grad for frame in seen)


@pytest.mark.parametrize(("seconds", "fps", "count"), [(0.1, 1, 1), (0.5, 12, 6), (1.1, 7, 8), (2.0, 50, 100)])
def test_the_length_is_the_seconds_to_the_nearest_frame(seconds, fps, count):
    assert DeepDreamZoom(seconds=seconds, fps=fps).frames == count


def look(image: torch.Tensor) -> torch.Tensor:
    """Brightness, contrast and saturation, as the mean distance from grey, (3,)."""
    brightness = image.mean(1)
    return torch.stack([brightness.mean(), brightness.std(), (image - brightness).norm(dim=1).mean()])


def test_the_colours_of_a_long_zoom_stay_those_of_its_first_second():
    """Within 10 % over six seconds."""
    looks = torch.stack(list(map(look, pictures(DeepDreamZoom(size=64, octaves=2, steps=1, strength=3, seconds=6, fps=12)))))
    assert len(looks) == 72
    drift = looks[12:] / looks[:12].mean(0) - 1
    assert drift.abs().max() < 0.1


@pytest.mark.parametrize("zoom", [1.6, 0.6])
def test_borders_do_not_smear(zoom):
    """They have detail like the middle, also where the picture is continued by its mirror image again and again."""
    last = pictures(DeepDreamZoom(size=64, octaves=2, steps=1, strength=3, seconds=2, fps=12, zoom=zoom, turn=20))[-1]
    across = last.diff(dim=-1).abs().mean((0, 1, 2))
    down = last.diff(dim=-2).abs().mean((0, 1, 3))
    for detail in (across, down):
        for border in (detail[:6], detail[-6:]):
            assert 0.3 < border.mean() / detail.mean() < 3


def test_guide_and_mask_apply_to_every_frame():
    recipe = DeepDreamZoom(**QUICK | {"seconds": 0.25}, zoom=1, turn=0)
    free = [frame.image for frame in frames(recipe) if frame.is_video_frame]
    guided = [frame.image for frame in frames(recipe, guide=MOUNTAIN.flip(-1)) if frame.is_video_frame]
    assert not any(torch.equal(one, other) for one, other in zip(free, guided, strict=True))
    mask = torch.zeros(1, 3, 64, 96)
    mask[..., :48] = 1
    masked = [frame.image for frame in frames(recipe.replace(feather=0), mask=mask) if frame.is_video_frame]
    assert torch.allclose(masked[0][..., 60:], masked[1][..., 60:], atol=1e-5)
    assert not torch.allclose(masked[0][..., :40], masked[1][..., :40], atol=1e-2)


def test_the_demand_is_that_of_all_its_dreams():
    network = load("efficientnet_lite0")
    recipe = DeepDreamZoom(**QUICK)
    one = DeepDream(**{name: getattr(recipe, name) for name in DeepDream.model_fields}).demand(network, (100, 150))
    assert recipe.demand(network, (100, 150)).flops == pytest.approx(4 * one.flops)
    assert recipe.demand(network, (100, 150)).bytes == one.bytes


def test_a_film_shows_the_recipe_s_pictures_in_the_length_rate_and_size_of_its_fields(tmp_path):
    recipe = DeepDreamZoom(**QUICK, seed=2**31 - 1)  # The greatest.
    for _ in film(recipe, tmp_path / "a.mp4", image=FILE, mask=None):
        pass
    assert metadata.read(tmp_path / "a.mp4", RECIPES).optional_images == ()
    with av.open(tmp_path / "a.mp4") as file:
        (stream,) = file.streams
        made = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
        assert (len(made), stream.average_rate) == (4, 8)
        assert float(stream.duration * stream.time_base) == pytest.approx(0.5)
    assert {picture.shape for picture in made} == {(64, 96, 3)}
    assert all(np.abs(after.astype(float) - before).mean() > 2 for before, after in pairwise(made))
    for frame, picture in zip(made, pictures(recipe), strict=True):
        written = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
        assert likeness(written, picture) > 0.98
