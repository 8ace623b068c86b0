"""The table of recipes."""

import pytest
import torch
from card import Waits, network

from featviz.optimise.transfers import constant
from featviz.recipes.recipe import choices, longest
from featviz.recipes.table import RECIPES


def test_every_text_field_has_a_maximum_length_and_every_rule_names_existing_fields():
    for recipe in RECIPES.values():
        for name, field in recipe.model_fields.items():
            assert (longest(field) is not None) == (field.annotation is str and not choices(field)), name
        names = {*recipe.model_fields, *recipe.images, *recipe.optional_images}
        for rule in recipe.rules:
            assert bool(rule.beside) != bool(rule.without)
            assert {*rule.unused, rule.beside or rule.without} <= names


def test_every_recipe_has_the_texts_of_what_it_offers():
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert bool(recipe().variants()) == bool(recipe.sweep_fields)
        for text in ("title", "action", "explanation"):
            assert vars(recipe)[text], (recipe, text)  # Its own, not those of the recipe it derives from.
        assert not recipe.sweep_fields or (recipe.sweep_action and recipe.sweep_caption)
        assert bool(recipe.mask_action) == ("mask" in recipe.optional_images)


@pytest.mark.parametrize("name", ["deepdream", "style_transfer"])
def test_a_large_picture_is_computed_from_coarse_to_fine(name):
    """So that something is there after a second, also where a step at full size takes half a minute and has tiles."""
    recipe = RECIPES[name](size=640, steps=1)
    pictures = {role: torch.empty(1, 3, 512, 768, device="meta") for role in recipe.images}
    with Waits():  # On a stand-in without numbers.
        sides = [max(frame.image.shape) for frame in recipe.run(network(recipe.network_name), **pictures)]
    constant.cache_clear()  # A constant of the stand-in must not reach another test.
    assert sides == sorted(sides)
    assert sides[0] <= 640 / 4
    assert sides[-1] == 640
