from typing import ClassVar, Literal

import pytest
from pydantic import ValidationError

from featviz.errors import FieldError
from featviz.recipe import Recipe, bounds, choices, group, increment, param


class Soup(Recipe):
    """A recipe to test with."""

    name: ClassVar[str] = "soup"
    title: ClassVar[str] = "Soup"
    images: ClassVar[dict[str, str]] = {}

    salt: float = param(0.5, "How salty.", ge=0, le=2, step=0.25)
    carrots: int = param(3, "How many carrots.", group="Ingredients", ge=1)
    pot: Literal["copper", "iron"] = param("iron", "What it is cooked in.", group="Ingredients")


FIELDS = Soup.model_fields


def test_the_range_is_part_of_the_meaning():
    assert FIELDS["salt"].description == "How salty. From 0 to 2."
    assert FIELDS["carrots"].description == "How many carrots. At least 1."


def test_surfaces_can_read_everything_from_a_field():
    assert [bounds(FIELDS[name]) for name in FIELDS] == [(0, 2), (1, None), (None, None)]
    assert [choices(FIELDS[name]) for name in FIELDS] == [(), (), ("copper", "iron")]
    assert [increment(FIELDS[name]) for name in ("salt", "carrots")] == [0.25, 1]
    assert [group(FIELDS[name]) for name in FIELDS] == ["", "Ingredients", "Ingredients"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"salt": 3}, "salt is 3; expected a number from 0 to 2."),
        ({"salt": float("nan")}, "salt is nan; expected a number from 0 to 2."),
        ({"salt": "much"}, "salt is 'much'; expected a number from 0 to 2."),
        ({"salt": None}, "salt is None; expected a number from 0 to 2."),
        ({"carrots": 0}, "carrots is 0; expected a whole number of at least 1."),
        ({"carrots": 2.5}, "carrots is 2.5; expected a whole number of at least 1."),
        ({"pot": "irn"}, "There is no pot 'irn'; did you mean 'iron'?"),
        ({"pot": "x"}, "There is no pot 'x'; accepted: 'copper', 'iron'"),
        ({"slat": 1}, "Soup has no parameter 'slat'; did you mean 'salt'?"),
    ],
)
def test_a_bad_field_is_one_sentence_with_the_value_and_what_is_accepted(fields, sentence):
    with pytest.raises(FieldError) as raised:
        Soup(**fields)
    assert str(raised.value) == sentence


def test_a_recipe_is_frozen_and_compares_by_its_fields():
    assert Soup(carrots=4) == Soup(carrots=4) != Soup()
    with pytest.raises(ValidationError, match="frozen"):
        Soup().carrots = 4
