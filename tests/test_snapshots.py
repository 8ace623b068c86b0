import pytest
from PIL import Image

from scripts.snapshots import FOLDER, SNAPSHOTS, TOLERANCE, difference, made


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_a_recipe_gives_what_it_gave_when_it_was_last_approved(name):
    picture, snapshot = made(*SNAPSHOTS[name]), Image.open(FOLDER / f"{name}.png")
    assert picture.size == snapshot.size
    assert difference(picture, snapshot) < TOLERANCE


@pytest.mark.parametrize(("name", "field", "factor"), [("deepdream", "strength", 0.7), ("style_transfer", "style_strength", 0.4)])
def test_a_change_that_is_seen_is_noticed(name, field, factor):
    recipe, pictures = SNAPSHOTS[name]
    changed = recipe.model_copy(update={field: factor * getattr(recipe, field)})
    assert difference(made(changed, pictures), Image.open(FOLDER / f"{name}.png")) > TOLERANCE
