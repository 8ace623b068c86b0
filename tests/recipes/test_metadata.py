"""Recipes are read back unchanged from files, links and commands. Invalid input is refused with one sentence."""

import json
import string
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel

import featviz
from featviz import cli
from featviz.errors import InputError
from featviz.media import images, saving, video
from featviz.networks.table import NETWORKS, addresses, class_names, split
from featviz.recipes import metadata
from featviz.recipes.metadata import Restored
from featviz.recipes.recipe import Recipe, bounds, choices, param
from featviz.recipes.table import RECIPES

quick = settings(max_examples=15, deadline=None, database=None, derandomize=True)

TEXTS = st.sampled_from(["", "3, 7", *class_names()[:3], *(f"{split(address)[1]}: 0.5" for address in addresses())]) | st.text()


def values(field) -> st.SearchStrategy:
    """Anything that a field accepts, and for text also what it does not."""
    if choices(field):
        return st.sampled_from(choices(field))
    low, high = bounds(field)
    return {
        bool: st.booleans(), int: st.integers(low, high), float: st.floats(low, high, allow_nan=False), str: TEXTS,
    }[field.annotation]  # fmt: skip


def recipes_of(kind: type[Recipe]) -> st.SearchStrategy[Recipe]:
    """Recipes of any fields; those that do not go together have been left out."""
    fields = st.fixed_dictionaries({}, optional={name: values(field) for name, field in kind.model_fields.items()})
    return fields.map(lambda chosen: metadata.from_json({"recipe": kind.name, "fields": chosen}, RECIPES).recipe)


recipes = st.one_of([recipes_of(kind) for kind in RECIPES.values()])
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def every_recipe(test):
    return pytest.mark.parametrize("kind", RECIPES.values(), ids=RECIPES)(test)


# Round trips


@every_recipe
@quick
@given(data=st.data())
def test_through_json(kind, data):
    recipe = data.draw(recipes_of(kind))
    assert metadata.restore(metadata.note(recipe, whole=True), RECIPES) == Restored(recipe)


@every_recipe
@quick
@given(data=st.data())
def test_through_a_link(kind, data):
    recipe = data.draw(recipes_of(kind))
    link = metadata.link(recipe)
    assert set(link) <= set(string.ascii_letters + string.digits + "-._~/:,?&=%")
    query = dict(parse_qsl(link[1:], keep_blank_values=True, strict_parsing=True))
    assert set(query) == {"recipe", *recipe.changed_fields}
    assert metadata.follow(query, RECIPES) == Restored(recipe)


@every_recipe
@quick
@given(data=st.data())
def test_through_the_command_line(kind, data):
    recipe = data.draw(recipes_of(kind))
    typed = [f"--{name.replace('_', '-')}={value}" for name, value in recipe.changed_fields.items()]
    out = [] if kind.produces == "numbers" else ["out.png"]
    arguments = cli.parser().parse_args([kind.name.replace("_", "-"), *kind.images, *out, *typed])
    assert cli.recipe_from_arguments(kind, vars(arguments)) == recipe


@pytest.mark.parametrize("extension", saving.PICTURE_FORMATS)
def test_through_a_picture(extension, tmp_path_factory):
    file = tmp_path_factory.mktemp("made") / f"made{extension}"

    @quick
    @given(recipe=recipes)
    def check(recipe):
        picture = Image.new("RGB", (20, 16), (200, 100, 50))
        picture.info[saving.NOTE] = metadata.note(recipe)
        saving.save(picture, file)
        assert featviz.recipe_of(file) == recipe

    check()


# What a result says


@every_recipe
def test_a_note_names_network_weights_and_version(kind):
    recipe = kind()
    said = json.loads(metadata.note(recipe, ["image"], whole=True))
    assert said == {
        "featviz": featviz.__version__,
        "recipe": kind.name,
        "fields": recipe.model_dump(),
        "network": recipe.network_name,
        "weights": NETWORKS[recipe.network_name].weights.sha256,
        "pictures": ["image"],
        "whole": True,
    }


QUICK = {"layer": "efficientnet_lite0/block1", "size": 64, "steps": 2, "octaves": 1}


@pytest.fixture
def private(tmp_path) -> Path:
    """A picture with a name, a place, comments and a recipe of its own in it."""
    exif = Image.Exif()
    exif[0x010E] = "private description"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (59.0, 20.0, 30.0)
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0{private comment}"
    text = PngInfo()
    text.add_text("Author", "private author")
    text.add_text(saving.NOTE, '{"private": "note"}')
    file = tmp_path / "private name.png"
    Image.effect_mandelbrot((64, 48), (-2, -1.2, 1, 1.2), 60).convert("RGB").save(file, exif=exif, pnginfo=text)
    return file


@pytest.mark.parametrize("extension", saving.PICTURE_FORMATS)
def test_a_result_carries_its_own_recipe_and_nothing_of_the_picture_s(extension, private, tmp_path):
    recipe = RECIPES["deepdream"](**QUICK)
    out = tmp_path / f"out{extension}"
    featviz.save(featviz.run(recipe, image=private), out)
    assert featviz.recipe_of(out) == recipe
    assert b"private" not in out.read_bytes()
    with Image.open(out) as made:
        assert dict(made.getexif().get_ifd(0x8825)) == {}


@pytest.mark.parametrize("extension", video.VIDEO_FORMATS)
def test_the_same_recipe_gives_the_same_bytes_of_a_video_and_nothing_of_the_picture_s(extension, private, tmp_path):
    recipe = RECIPES["deepdream_zoom"](**QUICK, seconds=0.2)
    files = [tmp_path / f"{name}{extension}" for name in "ab"]
    for file in files:
        *_, _ = featviz.film(recipe, file, image=private)
    a, b = (file.read_bytes() for file in files)
    assert a == b
    assert b"private" not in a
    assert featviz.recipe_of(files[0]) == recipe


def test_fingerprints_recognise_the_pictures_and_reveal_nothing_else(private):
    recipe = RECIPES["deepdream"](**QUICK)
    notes = [json.loads(featviz.run(one, image=private).info[saving.NOTE]) for one in (recipe, recipe, recipe_with_seed_1())]
    assert notes[0] == notes[1]  # No randomness: the same recipe on the same picture gives the same bytes.
    for said in notes:
        assert set(said["fingerprints"]) == {"salt", "image"}
        assert len(said["fingerprints"]["image"]) == 8  # 32 bits: nothing of a picture can be told from them.
    for part in ("salt", "image"):  # Two results of one picture cannot be told to be that.
        assert notes[0]["fingerprints"][part] != notes[2]["fingerprints"][part]
    picture = images.open_picture(private)
    other = picture.copy()
    other.putpixel((63, 47), (1, 2, 3))
    restored = metadata.restore(json.dumps(notes[0]), RECIPES)
    assert metadata.changed_pictures(restored, {"image": picture}) == []
    assert metadata.changed_pictures(restored, {"image": other}) == ["image"]
    assert metadata.changed_pictures(restored, {"image": picture, "mask": picture}) == ["mask"]
    assert metadata.changed_pictures(restored, {}) == ["image"]
    assert metadata.changed_pictures(Restored(recipe), {"image": other}) == []  # Of a version that did not record it.


def recipe_with_seed_1() -> Recipe:
    return RECIPES["deepdream"](**QUICK, seed=1)


@quick
@given(size=st.tuples(st.integers(1, 40), st.integers(1, 700)), place=st.floats(0, 1, exclude_max=True))
def test_a_single_pixel_makes_another_fingerprint(size, place):
    picture = Image.new("RGB", size, (9, 9, 9))
    other = picture.copy()
    other.putpixel((int(place * size[0]), int(place * size[1])), (9, 9, 8))
    of_both = [metadata.fingerprints({"image": one}, "salt")["image"] for one in (picture, other)]
    assert of_both[0] != of_both[1]


def test_malformed_fingerprints_are_ignored():
    for odd in (None, 3, [], "a", {"salt": 3}, {"salt": "\ud800", "image": 3}, {"image": "a"}, {"salt": "s" * 10_000}):
        restored = metadata.restore(json.dumps(NOTE | {"fingerprints": odd}), RECIPES)
        assert metadata.changed_pictures(restored, {"image": Image.new("RGB", (16, 16))}) in ([], ["image"])


def test_a_preview_records_that_its_run_is_incomplete(private):
    previews = list(featviz.stream(RECIPES["deepdream"](**QUICK), every=0, image=private))
    said = [metadata.read(preview.picture, RECIPES).remarks for preview in previews]
    assert said == [
        ("It was made by a run that was stopped, or whose settings were changed during it; a new run gives another picture.",),
        (),
    ]


def test_a_steered_run_records_its_last_fields_and_that_they_changed():
    class Steered(RECIPES["style_transfer"]):
        steps: int = param(2, "Steps.", ge=1, le=9)
        style_strength: float = param(1.0, "Style.", ge=0, le=10, live=True)

    asked, wanted = (Steered(network="efficientnet_lite0", size=64, scales=1, style_strength=strength) for strength in (1, 3))
    picture = Image.effect_mandelbrot((64, 48), (-2, -1.2, 1, 1.2), 60)
    *_, last = featviz.stream(asked, steer=lambda: wanted, content=picture, style=picture)
    restored = metadata.read(last.picture, {"style_transfer": Steered})
    assert (restored.recipe, len(restored.remarks)) == (wanted, 1)


# What else may come


NOTE = {"recipe": "deepdream", "fields": {"steps": 9}}


@pytest.mark.parametrize(
    ("more", "remark"),
    [
        ({}, None),
        ({"another": 1}, None),
        ({"featviz": "0.0.1"}, "It was made by featviz 0.0.1; this is "),
        ({"weights": None}, None),
        ({"weights": "abc"}, "It was made with other weights of VGG-19; "),
        ({"fields": {"steps": 9, "swirl": 1}}, "DeepDream has no parameter 'swirl'; "),
        ({"fields": {"steps": 9, "size": "large"}}, "size is 'large'; expected a whole number from "),
        ({"fields": {"steps": 9, "more_layers": "block3: 1"}}, "VGG-19 has no layer 'block3'; "),
        ({"fields": {"steps": 9, "self": 1}}, "DeepDream has no parameter 'self'; "),
    ],
)
def test_unusable_parts_of_a_note_become_remarks_and_the_rest_is_used(more, remark):
    restored = metadata.restore(json.dumps(NOTE | more), RECIPES)
    assert restored.recipe == RECIPES["deepdream"](steps=9)
    assert [said[: len(remark)] for said in restored.remarks] == [remark] if remark else restored.remarks == ()


@pytest.mark.parametrize("content", [b"[" * 50_000, b"\xff\xff\xff"])
def test_a_file_that_is_no_json_is_refused_with_one_sentence(content, tmp_path):
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(InputError, match=r"The recipe '.*r\.json' is not JSON\."):
        metadata.read_json(tmp_path / "r.json", RECIPES)


@pytest.mark.parametrize(
    ("query", "recipe", "remarks"),
    [
        ({}, None, 0),
        ({"__theme": "dark", "view": "api", "utm_source": "x", "fbclid": "y"}, None, 0),
        ({"recipe": "deepdream", "fbclid": "y"}, RECIPES["deepdream"](), 0),
        ({"recipe": "deepdream", "steps": "9", "detail": "false"}, RECIPES["deepdream"](steps=9, detail=False), 0),
        ({"recipe": "deepdream", "steps": "900", "size": "128"}, RECIPES["deepdream"](size=128), 1),
        ({"recipe": "deepdream", "sead": "9", "size": "128"}, RECIPES["deepdream"](size=128), 1),
    ],
)
def test_unusable_fields_of_a_link_become_remarks_and_the_rest_is_used(query, recipe, remarks):
    followed = metadata.follow(query, RECIPES)
    assert (followed and followed.recipe) == recipe
    assert len(followed.remarks if followed else ()) == remarks


def test_many_invalid_fields_cost_bounded_work(monkeypatch):
    parsed, init = [], BaseModel.__init__

    def counted(self, /, **fields):
        parsed.append(fields)
        init(self, **fields)

    monkeypatch.setattr(BaseModel, "__init__", counted)
    junk = {f"f{number}": "x" for number in range(12_000)}
    for restored in (
        metadata.from_json({"recipe": "deepdream", "fields": {**junk, "steps": 9}}, RECIPES),
        metadata.follow({"recipe": "deepdream", **junk, "steps": "9"}, RECIPES),
    ):
        assert restored.recipe == RECIPES["deepdream"](steps=9)
        assert len(restored.remarks) == 1
        assert restored.remarks[0].endswith("11999 more are unknown.")
    assert len(parsed) <= 6  # Two for each, and those of the comparison.
    parsed.clear()
    wrong = dict.fromkeys(RECIPES["deepdream"].model_fields, "wrong")
    assert len(metadata.from_json({"recipe": "deepdream", "fields": wrong}, RECIPES).remarks) > 10
    assert len(parsed) <= len(wrong) + 2


EARLIER = {"class_name": "hummingbird", "channels": "3", "more_layers": "block5", "layer": "efficientnet_lite0/block9"}
"""What earlier versions accepted, though only the class had an effect."""


@pytest.mark.parametrize(
    ("kind", "fields", "pictures", "restored", "remarks"),
    [
        ("deepdream", EARLIER, ["image"], {"layer": EARLIER["layer"], "class_name": "hummingbird"}, 2),
        ("deepdream", {"channels": "3"}, ["image", "guide"], {}, 1),
        ("deepdream", {"channels": "3"}, ["image"], {"channels": "3"}, 0),
        ("deepdream", {"outside": "vgg19/relu2_1"}, ["image"], {}, 1),
        ("deepdream", {"outside": "vgg19/relu2_1"}, ["image", "mask"], {"outside": "vgg19/relu2_1"}, 0),
        ("deepdream", {"outside": "vgg19/relu2_1"}, [], {"outside": "vgg19/relu2_1"}, 0),  # Nothing is known of its pictures.
        ("deepdream", {"outside": "vgg19/relu2_1"}, {"mask": 1}, {"outside": "vgg19/relu2_1"}, 0),
        ("feature_visualization", {"channel": 5, "class_name": "pizza"}, [], {"class_name": "pizza"}, 1),
    ],
)
def test_fields_without_effect_from_an_earlier_version_are_left_out_with_a_remark(kind, fields, pictures, restored, remarks):
    note = json.dumps({"recipe": kind, "fields": fields, "pictures": pictures})
    found = metadata.restore(note, RECIPES)
    assert found.recipe == RECIPES[kind](**restored)
    assert len(found.remarks) == remarks
    assert all("has no effect" in remark for remark in found.remarks)


names = st.sampled_from([name for kind in RECIPES.values() for name in kind.model_fields]) | st.text(max_size=8)


@settings(quick, max_examples=100)
@given(fields=st.dictionaries(names, any_json, max_size=4), name=st.sampled_from([*RECIPES]) | any_json, text=st.text())
def test_arbitrary_input_gives_a_recipe_or_one_sentence(fields, name, text):
    for read in (
        lambda: metadata.restore(text, RECIPES),
        lambda: metadata.restore(json.dumps({"recipe": name, "fields": fields, "featviz": name}), RECIPES),
        lambda: metadata.follow({"recipe": str(name), **{key: str(value) for key, value in fields.items()}}, RECIPES),
    ):
        try:
            restored = read()
        except InputError as error:
            said = [str(error)]
        else:
            said = restored.remarks if restored else []
        assert all(len(sentence.encode()) < 2000 for sentence in said)


@pytest.mark.parametrize("kind", ["text", "picture", "gone", "other comment"])
def test_a_file_without_a_recipe_is_one_sentence(kind, tmp_path):
    file = tmp_path / "file.jpg"
    if kind == "text":
        file.write_text("Nothing.")
    elif kind != "gone":
        Image.new("RGB", (20, 20)).save(file, comment=b"from a camera" if kind == "other comment" else b"")
    with pytest.raises(InputError, match="does not exist" if kind == "gone" else "There is no recipe in this file"):
        featviz.recipe_of(file)
