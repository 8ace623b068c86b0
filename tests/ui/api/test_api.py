"""The API and the MCP server, live: they are the recipes, and what they return is the library's picture."""

import inspect
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from featviz import aliases, recipe_of, run
from featviz.media.images import Header
from featviz.recipes import presets
from featviz.recipes.metadata import as_json
from featviz.recipes.recipe import choices
from featviz.recipes.style_transfer import StyleTransfer
from featviz.recipes.table import RECIPES
from featviz.runtime.estimate import estimate

SMALL = {
    "deepdream": {"size": 96, "steps": 2, "octaves": 2},
    "deepdream_zoom": {"size": 96, "steps": 1, "octaves": 2, "seconds": 0.5, "fps": 8},
    "style_transfer": {"size": 96, "steps": 2, "scales": 1},
    "layer_time_lapse": {"size": 64, "steps": 1, "octaves": 1},
    "feature_visualization": {"layer": "efficientnet_lite0/block2", "channel": 3, "size": 64, "steps": 2},
    "reconstruct_content": {"layer": "efficientnet_lite0/stem", "size": 96, "steps": 2},
    "reconstruct_style": {"layers": 1, "size": 96, "steps": 2},
}

RETURNED = {"picture": ("Result", "Image"), "video": ("Result", "Video"), "numbers": ("Names", "Label")}
"""What an endpoint returns, by what its recipe produces."""


BESIDE = {
    "presets", "estimate", "recipe", "start", "job", "stop", "gradient", "film", *aliases.ENDPOINTS,
    *(f"{name}_sheet" for name, recipe in RECIPES.items() if recipe.sweep_fields),
    *(f"{name}_video" for name, recipe in RECIPES.items() if recipe.follows_video),
}  # fmt: skip
"""Endpoints beside the recipes' own."""


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[Client]:
    client = Client(server, verbose=False, analytics_enabled=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """A picture with a place in its metadata, lying on its side."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn it by 90°.
    exif[0x010E] = "a private description"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (59.0, 20.0, 30.0)
    Image.effect_mandelbrot((160, 120), (-2, -1.2, 1, 1.2), 60).convert("RGB").save(path, exif=exif, comment=b"private")
    return path


@pytest.fixture(params=RECIPES.values(), ids=RECIPES)
def recipe(request):
    return request.param


def pictures(recipe, photo: Path) -> dict[str, object]:
    return {role: handle_file(photo) for role in recipe.images}


# What is published


@pytest.fixture(scope="module")
def endpoints(client) -> dict:
    return client.view_api(return_format="dict", print_info=False)


@pytest.fixture(scope="module")
def tools(server) -> dict[str, dict]:
    with urllib.request.urlopen(f"{server}gradio_api/mcp/schema", timeout=60) as schema:
        return {tool["name"]: tool for tool in json.load(schema)}


def test_the_endpoints_are_the_recipes(endpoints, tools):
    assert set(tools) == {*RECIPES, *BESIDE}
    assert set(endpoints["named_endpoints"]) == {f"/{name}" for name in (*RECIPES, *BESIDE)}
    assert endpoints["unnamed_endpoints"] == {}


def test_an_endpoint_takes_the_recipe_s_fields_and_returns_one_result(endpoints, recipe):
    endpoint = endpoints["named_endpoints"][f"/{recipe.name}"]
    assert [parameter["parameter_name"] for parameter in endpoint["parameters"]] == [
        *recipe.images,
        *recipe.model_fields,
        *recipe.optional_images,
    ]
    published = {parameter["parameter_name"]: parameter for parameter in endpoint["parameters"]}
    for role in recipe.images:
        assert published[role]["component"] == "Image"
        assert not published[role]["parameter_has_default"]
    for name, field in recipe.model_fields.items():
        assert published[name]["parameter_has_default"]
        assert published[name]["parameter_default"] == field.default
        assert published[name]["type"]["type"] == json_type(field)
        if choices(field):
            assert published[name]["type"]["enum"] == list(choices(field))
    assert [(value["label"], value["component"]) for value in endpoint["returns"]] == [RETURNED[recipe.produces]]


def test_an_mcp_tool_says_what_the_fields_say(tools, recipe):
    assert tools[recipe.name]["description"].startswith(inspect.getdoc(recipe))
    schema = tools[recipe.name]["inputSchema"]
    assert list(schema["properties"]) == [*recipe.images, *recipe.model_fields, *recipe.optional_images]
    assert schema.get("required", []) == list(recipe.images)
    for role, meaning in recipe.images.items():
        assert meaning in schema["properties"][role]["description"]
    for name, field in recipe.model_fields.items():
        published = schema["properties"][name]
        assert published["description"] == field.description
        assert published.get("default") == (field.default or None)  # Gradio leaves zeros out.
        assert published["type"] == json_type(field)
        assert published.get("enum", []) == list(choices(field))


def json_type(field) -> str:
    return {int: "integer", float: "number", bool: "boolean"}.get(field.annotation, "string")


# Python


@pytest.mark.parametrize("recipe", [RECIPES[name] for name in SMALL if RECIPES[name].produces == "picture"])
def test_a_job_yields_previews_and_ends_with_the_library_s_picture(client, recipe, photo):
    """Upright, in the size asked for, without loss, and without what the picture says of its maker."""
    job = client.submit(**pictures(recipe, photo), **SMALL[recipe.name], api_name=f"/{recipe.name}")
    previews = list(job)
    assert len(previews) >= 2
    with Image.open(job.result()) as result:
        assert result.format == "PNG"
        assert result.size == ((72, 96) if recipe.images else (64, 64))  # Upright, and `size` is its longest side.
        expected = run(recipe(**SMALL[recipe.name]), **dict.fromkeys(recipe.images, photo))
        assert result.tobytes() == expected.tobytes()  # Lossless.
        assert not dict(result.getexif())
        assert result.info.keys().isdisjoint({"exif", "comment", "icc_profile", "xmp"})
        assert recipe_of(result) == recipe(**SMALL[recipe.name])
    with Image.open(previews[0]) as first:
        assert first.tobytes() != expected.tobytes()


def test_a_picture_is_named_with_probabilities(client):
    label = client.predict(handle_file(presets.FOLDER / "cat.jpg"), api_name="/classification")
    assert label["label"] in ("Egyptian cat", "tabby", "tiger cat")
    names = [(entry["label"], entry["confidence"]) for entry in label["confidences"]]
    assert len(names) == 5
    assert names == sorted(names, key=lambda entry: -entry[1])
    assert 0.3 < names[0][1] < 1


def test_a_zoom_is_a_video(client, photo):
    job = client.submit(image=handle_file(photo), **SMALL["deepdream_zoom"], api_name="/deepdream_zoom")
    *before, _ = job
    assert set(before) == {None}
    path = job.result()["video"] if isinstance(job.result(), dict) else job.result()
    with av.open(path) as file:
        (stream,) = file.streams
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 8)
        assert [(frame.width, frame.height) for frame in file.decode(stream)] == [(72, 96)] * 4
    assert b"private" not in Path(path).read_bytes()
    assert recipe_of(path) == RECIPES["deepdream_zoom"](**SMALL["deepdream_zoom"])


def test_every_preset_is_listed(client):
    told = client.predict(api_name="/presets")
    fine = client.predict("Fine", api_name="/presets")
    assert told == [{"name": look.name, "title": look.title, **as_json(look.recipe)} for look in presets.read_presets()]
    assert {look["fields"]["size"] for look in fine} == {1024}


def test_an_estimate_is_of_all_pictures(client):
    asked = "style_transfer", {"size": 128}, 640, 480
    alone = client.predict(*asked, api_name="/estimate")
    others = client.predict(*asked, {"style": [3000, 2000], "mask": [640, 480]}, api_name="/estimate")
    assert others["bytes"] > alone["bytes"]
    assert others["bytes"] == estimate(
        StyleTransfer(size=128),
        {"content": Header((640, 480)), "style": Header((3000, 2000)), "mask": Header((640, 480))},
        device="cpu",
    ).bytes  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (("deepdreem", {}, 640, 480), "There is no recipe 'deepdreem'; did you mean 'deepdream'?"),
        (("deepdream", [], 640, 480), "This is not a recipe; expected"),
        (("feature_visualization", {"channel": 112}, 0, 0), "EfficientNet-Lite0 block9 has no channel 112; it has 0 to 111."),
        (("deepdream", {}, 0, 0), "The image is 0×0 pixels; each side needs at least 16."),
        (("deepdream", {}, 640, 480, {"style": [90, 90]}), "DeepDream takes no picture 'style'; it takes image, guide, mask."),
        (("deepdream", {}, 640, 480, {"guide": "large"}), "The size of the guide is large; expected its width and height"),
        (("deepdream", {}, 640, 480, {"guide": [10**5, 10**5]}), "The guide is 100000×100000, 10000 megapixels; at most 50"),
    ],
)
def test_an_estimate_of_nothing_is_answered_in_a_sentence(client, asked, sentence):
    with pytest.raises(AppError) as caught:
        client.predict(*asked, api_name="/estimate")
    assert caught.value.message.startswith(sentence)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"steps": 0}, "steps is 0; expected a whole number from 1 to"),
        ({"channels": "1," * 60_000}, "channels has 120000 characters; expected at most 500."),
        ({"outside": "vgg19/relu2_1"}, "outside has no effect without mask: nothing is outside; leave outside out."),
    ],
)
def test_a_wrong_value_is_answered_in_a_sentence(client, photo, fields, sentence):
    with pytest.raises(AppError) as caught:
        client.predict(image=handle_file(photo), **fields, api_name="/deepdream")
    assert caught.value.message.startswith(sentence)


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("deepdream", {"swirl": 1}, "Parameter `swirl` is not a valid key-word argument."),
        ("deepdream", {}, "No value provided for required argument: image"),
        ("dream_on", {}, "There is no endpoint 'dream_on'."),
    ],
)
def test_a_call_with_arguments_that_do_not_fit_is_answered_in_a_sentence(server, name, fields, sentence):
    answer = httpx.post(f"{server}gradio_api/call/v2/{name}", json=fields, timeout=60, trust_env=False)
    assert (answer.status_code, answer.json()) == (422, {"detail": sentence})


# app.py


def test_the_pictures_of_cards_are_files_that_stay():
    """The app keeps temporary files in Gradio's cache: a card's must not be one that is deleted when it has been made."""
    kept = [file for block in app.demo.blocks.values() for file in block.keep_in_cache]
    assert len(kept) > 10
    assert all(Path(file).is_file() for file in kept)


def test_app_builds_the_demo_and_knows_its_options():
    assert {fn.api_name for fn in app.demo.fns.values() if fn.api_visibility != "private"} == {*RECIPES, *BESIDE}
    options = app.server.parse(["--host", "0.0.0.0", "--port", "8000", "--share", "--device", "cpu"])
    assert vars(options) == {"host": "0.0.0.0", "port": 8000, "share": True, "device": "cpu"}
    assert vars(app.args) == {"host": None, "port": None, "share": False, "device": "auto"}
