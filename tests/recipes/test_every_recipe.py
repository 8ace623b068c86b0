"""What every recipe promises of its frames and its results."""

import pytest
import torch
from standins import small

from featviz.networks.cache import load
from featviz.recipes.recipe import Frame, Recipe
from featviz.recipes.table import RECIPES

STEPWISE = [recipe for recipe in RECIPES.values() if recipe.produces != "numbers"]
SEEDED = [recipe for recipe in STEPWISE if "seed" in recipe.model_fields]
NOISE = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))


def frames(recipe: Recipe, image: torch.Tensor = NOISE) -> list[Frame]:
    return list(recipe.run(load(recipe.network_name), **dict.fromkeys(recipe.images, image)))


@pytest.mark.parametrize("recipe", STEPWISE, ids=lambda recipe: recipe.name)
def test_frames_stay_in_range_and_count_steps_and_work(recipe):
    seen = frames(small(recipe))
    assert [frame.step for frame in seen] == list(range(1, seen[-1].steps + 1))
    assert {frame.steps for frame in seen} == {len(seen)} or recipe.name == "ablation"  # It ends when the name changes.
    assert [frame.work for frame in seen] == sorted(frame.work for frame in seen)
    assert seen[-1].work == pytest.approx(1)
    assert all(0 <= frame.image.min() and frame.image.max() <= 1 and not frame.image.requires_grad for frame in seen)


@pytest.mark.parametrize("recipe", SEEDED, ids=lambda recipe: recipe.name)
def test_the_same_seed_gives_the_same_bits_and_another_seed_another_picture(recipe):
    more = {"init": "noise"} if recipe.name == "style_transfer" else {}
    first, again, other = (frames(small(recipe, seed=seed, **more))[-1].image for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("recipe", STEPWISE, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("value", [0.1, 1.0])
def test_a_flat_picture_gives_no_nan(recipe, value):
    *_, last = frames(small(recipe), torch.full((1, 3, 48, 64), value))
    assert last.image.isfinite().all()
    assert last.loss.isfinite()
