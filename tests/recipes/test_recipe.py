import functools
import json
from contextlib import nullcontext
from typing import ClassVar, Literal

import pytest
import torch
from pydantic import BaseModel

from featviz.errors import FieldError
from featviz.networks.cache import load
from featviz.recipes.recipe import Frame, Recipe, Rule, bounds, choices, group, held_bytes, increment, longest, param
from featviz.recipes.reconstruction import ROUND, ReconstructStyle


class Soup(Recipe):
    """A recipe to test with."""

    name: ClassVar[str] = "soup"
    title: ClassVar[str] = "Soup"
    images: ClassVar[dict[str, str]] = {}

    salt: float = param(0.5, "How salty.", ge=0, le=2, step=0.25)
    carrots: int = param(3, "How many carrots.", group="Ingredients", ge=1)
    pot: Literal["copper", "iron"] = param("iron", "What it is cooked in.", group="Ingredients")


FIELDS = Soup.model_fields


def test_surfaces_can_read_everything_from_a_field():
    assert FIELDS["salt"].description == "How salty. From 0 to 2."
    assert FIELDS["carrots"].description == "How many carrots. At least 1."
    assert [bounds(FIELDS[name]) for name in FIELDS] == [(0, 2), (1, None), (None, None)]
    assert [choices(FIELDS[name]) for name in FIELDS] == [(), (), ("copper", "iron")]
    assert [increment(FIELDS[name]) for name in ("salt", "carrots")] == [0.25, 1]
    assert [group(FIELDS[name]) for name in FIELDS] == ["", "Ingredients", "Ingredients"]


# Text and junk of any size


class Menu(Soup):
    """A recipe with rules."""

    title: ClassVar[str] = "Menu"
    optional_images: ClassVar[dict[str, str]] = {"bill": "What it costs.", "tip": "What is added."}
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(("wish", "tip"), "the cook decides", beside="surprise"),
        Rule(("tip",), "there is nothing to add to", without="bill"),
        Rule(("carrots",), "the salt hides them", beside="salt", refused=False),
    )

    wish: str = param("", "What is wanted.", longest=10)
    spoons: int = param(1, "How many spoons.", ge=0, le=9)
    surprise: bool = param(False, "Let the cook decide.")


@pytest.fixture
def parsed(monkeypatch) -> list:
    """What pydantic was asked to parse."""
    seen, init = [], BaseModel.__init__

    def counted(self, /, **fields):
        seen.append(fields)
        init(self, **fields)

    monkeypatch.setattr(BaseModel, "__init__", counted)
    return seen


def test_text_has_a_greatest_length_on_every_way_in():
    assert Menu(wish="w" * 10).wish == "w" * 10
    for make in (
        lambda text: Menu(wish=text),
        lambda text: Menu().replace(wish=text),
        lambda text: Menu.model_validate({"wish": text}),
    ):
        with pytest.raises(FieldError, match=r"^wish has 120000 characters; expected at most 10.$"):
            make("w" * 120_000)
    assert Menu.model_json_schema()["properties"]["wish"]["maxLength"] == longest(Menu.model_fields["wish"]) == 10


def test_unknown_fields_are_refused_before_any_value_is_parsed(parsed):
    junk = {f"field {number}": "x" for number in range(12_000)}
    for make in (lambda: Menu(**junk, salt=1), lambda: Menu().replace(**junk), lambda: Menu.model_validate(junk)):
        parsed.clear()
        with pytest.raises(FieldError, match="Menu has no parameter 'field 0'; "):
            make()
        assert len(parsed) <= 1  # `Menu()` itself.


NESTED = functools.reduce(lambda inner, _: [inner], range(5000), 1)


JUNK = {
    "integer": 10**5000,
    "negative": -(10**5000),
    "digits": "9" * 10**6,
    "list": [0] * 10**6,
    "nested": NESTED,
    "object": {"a": "b" * 10**6},
    "surrogate": "\ud800" * 99,
}


@pytest.mark.parametrize("value", JUNK.values(), ids=JUNK)
@pytest.mark.parametrize("name", ["salt", "spoons", "pot", "wish", "surprise"])
def test_a_value_of_any_size_and_depth_is_one_short_sentence(name, value):
    with pytest.raises(FieldError) as raised:
        Menu(**{name: value})
    assert len(str(raised.value)) < 200


# One way to change a recipe


CHANGES = {
    "replace": lambda recipe, changes: recipe.replace(**changes),
    "model_copy": lambda recipe, changes: recipe.model_copy(update=changes),
    "copy": lambda recipe, changes: recipe.copy(update=changes),
    "model_construct": lambda recipe, changes: type(recipe).model_construct(**dict(recipe) | changes),
    "model_validate": lambda recipe, changes: type(recipe).model_validate(dict(recipe) | changes),
    "model_validate_json": lambda recipe, changes: type(recipe).model_validate_json(json.dumps(dict(recipe) | changes)),
    "model_validate_strings": lambda recipe, changes: type(recipe).model_validate_strings(
        {name: str(value) for name, value in (dict(recipe) | changes).items()}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_way_to_change_a_recipe_validates_and_raises_our_error_only(change):
    recipe = Menu(carrots=4)
    assert change(recipe, {"salt": 1.5}) == Menu(carrots=4, salt=1.5)
    assert recipe == Menu(carrots=4)
    for wrong in ({"carrots": -5}, {"salt": "much"}, {"slat": 1}, {"wish": "soup", "surprise": True}):
        with pytest.raises(FieldError):
            change(recipe, wrong)


@pytest.mark.parametrize("value", [5, None, "{", [1], Soup()])
def test_json_that_is_not_an_object_is_refused(value):
    with pytest.raises(FieldError, match="is no Menu; expected an object of its fields"):
        Menu.model_validate(value)
    with pytest.raises(FieldError, match="is no Menu; expected an object of its fields"):
        Menu.model_validate_json("{")


# What has no effect


@pytest.mark.parametrize(
    ("fields", "pictures", "sentence"),
    [
        ({"wish": "soup"}, (), ""),
        ({"surprise": True}, (), ""),
        ({"surprise": True, "wish": ""}, (), ""),  # At its default, it is not set.
        ({"surprise": True}, ("bill",), ""),
        ({"wish": "soup"}, ("bill", "tip"), ""),
        ({"salt": 1, "carrots": 9}, (), ""),  # Ignored, and no error.
        ({}, ("tip",), "tip has no effect without bill: there is nothing to add to; leave tip out."),
        ({"surprise": True}, ("bill", "tip"), "tip has no effect beside surprise: the cook decides; leave tip out."),
        ({"surprise": True}, ("tip",), "tip has no effect beside surprise: the cook decides; leave tip out."),
    ],
)
def test_fields_and_pictures_without_effect_are_refused_with_the_reason(fields, pictures, sentence):
    recipe = Menu(**fields)
    with pytest.raises(FieldError) if sentence else nullcontext() as raised:
        recipe.check_unused(pictures)
    assert not sentence or str(raised.value) == sentence


def test_fields_that_exclude_each_other_are_refused_on_construction():
    with pytest.raises(FieldError, match=r"^wish has no effect beside surprise: the cook decides; leave wish out.$"):
        Menu(wish="soup", surprise=True)


def test_unused_fields_are_found_among_invalid_values():
    assert list(Menu.unused({"surprise": "perhaps", "carrots": None}, None)) == ["wish", "tip"]
    assert set(Menu.unused({"salt": 2}, ())) == {"tip", "carrots"}
    assert Menu.unused({"salt": 2}, ())["tip"].full_reason() == "without bill: there is nothing to add to"


# Frames


def test_pictures_are_held_decoded_and_as_floats():
    assert held_bytes((10, 20), (1, 1)) == (3 + 3 * 4) * (200 + 1)


def test_what_a_frame_shows_is_computed_when_it_is_first_read_and_once():
    read = []

    def image():
        read.append(torch.is_grad_enabled())
        return torch.zeros(1)

    frame = Frame(1, 2, "one", 0.5, loss=torch.ones(()), image=image, measures=lambda: {"size": frame.image.sum()})
    moved = frame.replace(stage="two", step=2)
    assert (moved.step, moved.steps, moved.stage, moved.work, moved.is_video_frame) == (2, 2, "two", 0.5, False)
    assert read == []
    assert moved.image is frame.image is moved.image
    assert moved.measures["size"] == 0
    assert read == [False]
    assert moved.replace(image=torch.ones(1)).image == 1


def test_a_reconstruction_computes_nothing_for_frames_that_are_not_shown():
    network, recipe = load("efficientnet_lite0"), ReconstructStyle(network="efficientnet_lite0", size=64, steps=2, layers=1)
    passes = []
    hook = network.module[0].register_forward_hook(lambda *_: passes.append(1))
    frames = recipe.run(network, style=torch.rand(1, 3, 64, 64))
    next(frames)
    before = len(passes)
    frame = next(frames)
    assert len(passes) - before == ROUND
    assert frame.loss.isfinite()
    assert frame.image.isfinite().all()
    assert len(passes) - before == ROUND
    assert frame.measures["nearer"] > 1
    assert len(passes) - before == ROUND + 1
    hook.remove()
