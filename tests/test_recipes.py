"""The table of recipes."""

from featviz.recipes import RECIPES


def test_recipes_are_found_by_their_names():
    assert [recipe.name for recipe in RECIPES.values()] == list(RECIPES)
    assert {"deepdream", "style_transfer"} < RECIPES.keys()
