"""Frames of a video that follow one another, on clips whose motion is known exactly."""

from itertools import pairwise

import pytest
import torch

from benchmarks.clips import CLIPS, Clip
from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.recipes import presets, style_target, style_transfer
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.following import Shown, follow
from featviz.recipes.recipe import Frame, Recipe
from featviz.recipes.style_transfer import StyleTransfer
from featviz.recipes.table import RECIPES

WAVE = to_tensor(open_picture(presets.FOLDER / "great_wave.jpg").resize((128, 96)))
DREAM = DeepDream(layer="efficientnet_lite0/block5", size=96, octaves=2, steps=6)
STYLE = StyleTransfer(network="efficientnet_lite0", size=96, steps=12)
OTHERS = {DREAM: {}, STYLE: {"style": WAVE}}

each = pytest.mark.parametrize("recipe", OTHERS, ids=lambda recipe: recipe.name)


def frames(recipe: Recipe, clip: Clip, **others) -> list[Frame]:
    role, *_ = recipe.images
    others = others or OTHERS.get(recipe.replace(steadiness=1.0), {})
    return list(follow(recipe, load(recipe.network_name), role, clip.frames, **others))


def results(recipe: Recipe, clip: Clip, **others) -> list[torch.Tensor]:
    return [frame.image for frame in frames(recipe, clip, **others) if frame.is_video_frame]


def still(recipe: Recipe, picture: torch.Tensor) -> Frame:
    role, *_ = recipe.images
    *_, last = recipe.run(load(recipe.network_name), **{role: picture}, **OTHERS[recipe.replace(steadiness=1.0)])
    return last


def warped_error(made: list[torch.Tensor], clip: Clip) -> float:
    """Root mean square error from the result before, moved by the true motion, where it was visible; at the size of the clip."""
    errors = [
        ((motion(before) - after).square() * motion.visible).sum() / motion.visible.sum()
        for (before, after), motion in zip(pairwise(made), clip.motions[1:], strict=True)
        if motion is not None
    ]
    return torch.stack(errors).mean().sqrt().item()


@pytest.fixture(scope="module")
def clips() -> dict[str, Clip]:
    return {name: CLIPS[name](4, 0.75) for name in ("pan", "cut-out")}


@each
def test_without_steadiness_each_frame_is_bit_for_bit_a_still(recipe, clips):
    clip = Clip(clips["pan"].frames[:2], clips["pan"].motions[:2])
    made = results(recipe.replace(steadiness=0), clip)
    assert all(torch.equal(image, still(recipe, picture).image) for image, picture in zip(made, clip.frames, strict=True))


@pytest.mark.parametrize(("recipe", "name"), [(DREAM, "pan"), (DREAM, "cut-out"), (STYLE, "pan")])
def test_the_warped_error_is_at_most_half_of_that_of_frames_made_alone(recipe, name, clips):
    alone, steady = (warped_error(results(recipe.replace(steadiness=it), clips[name]), clips[name]) for it in (0.0, 1.0))
    assert steady <= alone / 2


@each
def test_at_a_cut_a_frame_is_bit_for_bit_a_still(recipe):
    clip = CLIPS["cut"](2, 0.75)
    first, second = results(recipe, clip)
    assert torch.equal(first, still(recipe, clip.frames[0]).image)
    assert torch.equal(second, still(recipe, clip.frames[1]).image)


@each
def test_a_frame_that_follows_takes_at_most_a_third_of_a_still_s_work(recipe):
    """By the counted operations, with the default fields."""
    default = type(recipe)(**({} if recipe is STYLE else {"layer": recipe.layer}))
    network = load(default.network_name)
    first, later = (each.demand(network, (288, 384)).flops for each in (default, default.following))
    assert later <= first / 3
    assert default.replace(steadiness=0).following.demand(network, (288, 384)).flops == first


@each
def test_a_run_that_goes_on_from_its_latest_frame_gives_the_same_bits(recipe, clips):
    clip = Clip(clips["pan"].frames[:3], clips["pan"].motions[:3])
    made = results(recipe, clip)
    role, *_ = recipe.images
    latest = Shown(clip.frames[1], made[1], 2)
    rest = follow(recipe, load(recipe.network_name), role, clip.frames[2:], latest, **OTHERS[recipe])
    assert torch.equal([frame.image for frame in rest][-1], made[2])


def test_previews_show_the_latest_result_until_a_frame_is_complete(clips):
    seen = frames(DREAM, clips["pan"])
    ends = [number for number, frame in enumerate(seen) if frame.is_video_frame]
    assert len(ends) == 4
    assert ends[0] == 11  # Two octaves of six steps.
    for start, end in pairwise(ends):
        assert all(torch.equal(frame.image, seen[start].image) for frame in seen[start + 1 : end])
        assert not torch.equal(seen[end].image, seen[start].image)


def test_what_was_dreamt_is_carried_on_and_not_the_picture():
    """The picture fades to black where nothing moves: the dream stays, and the picture does not."""
    picture = CLIPS["pan"](1, 0.75).frames[0]
    darker = picture * 0.9
    first, second = results(DREAM, Clip([picture, darker], [None, None]))
    dreamt, carried = first - picture, second - darker
    assert torch.corrcoef(torch.stack([dreamt.flatten(), carried.flatten()]))[0, 1] > 0.8
    assert (second - second.mean() - (first - first.mean())).abs().mean() < 0.03
    assert (first.mean() - second.mean()).item() == pytest.approx((picture.mean() - darker.mean()).item(), abs=0.01)


def test_outside_the_mask_a_dream_leaves_the_video_as_it_is(clips):
    mask = torch.zeros_like(clips["pan"].frames[0])
    mask[..., :40] = 1
    made = results(DREAM.replace(feather=0), clips["pan"], mask=mask)
    for image, picture in zip(made, clips["pan"].frames, strict=True):
        assert torch.equal(image[..., 41:], picture[..., 41:])
        assert not torch.equal(image[..., :40], picture[..., :40])


def test_the_styles_are_computed_once_in_a_shot(monkeypatch):
    computed = []

    def counted(name):
        function = getattr(style_target, name)
        monkeypatch.setattr(style_target, name, lambda *given, **options: computed.append(name) or function(*given, **options))

    counted("moments_of")
    counted("cells_of")
    results(STYLE.replace(scales=1, steps=2), CLIPS["cut"](6, 0.5), style=WAVE)
    assert computed == 2 * ["moments_of", "cells_of"]  # Once for each shot.


def test_a_result_is_held_to_the_one_before(clips, monkeypatch):
    """With a weight that outweighs everything, the moved result stays."""
    monkeypatch.setattr(style_transfer, "HELD", 1e6)
    clip = clips["pan"]
    held = results(STYLE, clip)
    monkeypatch.setattr(style_transfer, "HELD", 0.0)
    free = results(STYLE, clip)
    assert warped_error(held, clip) < 0.7 * warped_error(free, clip)


def test_live_fields_hold_for_the_frames_that_follow(clips):
    clip = Clip(clips["pan"].frames[:2], clips["pan"].motions[:2])
    changed = STYLE.replace(style_strength=0.0)
    run = follow(STYLE, load(STYLE.network_name), "content", clip.frames, style=WAVE)
    frame = next(run)
    while not frame.is_video_frame:
        frame = run.send(None)
    losses = []
    while True:
        try:
            frame = run.send(changed)
        except StopIteration:
            break
        losses.append(frame.measures.keys())
    assert losses
    assert all("content" in names and len(names) == 1 for names in losses)


def test_only_recipes_that_follow_a_video_have_the_field():
    assert {name for name, kind in RECIPES.items() if "steadiness" in kind.model_fields} == {"deepdream", "style_transfer"}
    assert {name for name, kind in RECIPES.items() if kind.follows_video} == {"deepdream", "style_transfer"}


def test_the_share_that_is_carried_and_the_steps_that_make_up_for_it():
    recipe = DeepDream(steps=6, strength=2.0)
    assert recipe.carried == pytest.approx(0.95)
    assert recipe.following.steps == 1
    assert recipe.following.strength == pytest.approx(2.0 * 6 * (1 - 0.95**2))
    assert recipe.replace(steadiness=0.0).following == recipe.replace(steadiness=0.0)
    weak = DeepDream(steps=1, strength=0.1)
    assert (weak.following.steps, weak.following.strength) == (1, 0.1)  # The least that the field accepts.
