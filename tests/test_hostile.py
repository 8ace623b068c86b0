"""Malformed pictures and texts: each gives a picture or one sentence on every surface, and the next request is served."""

import base64
import random
import resource
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hostile
import numpy as np
import pytest
from hostile import EITHER, PICTURE, PUBLIC, SENTENCE, is_a_sentence, outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from featviz import cli
from featviz.errors import FeatvizError, FieldError
from featviz.media.images import open_picture
from featviz.recipes.recipe import bounds, choices
from featviz.recipes.table import RECIPES
from scripts.visitor import QUICK, Visitor, file, inline

pytestmark = pytest.mark.trust

CORPUS = hostile.corpus()
MEMORY = 600e6
"""Bytes that opening any file of the corpus may add to the process at its peak."""
FUZZED = 300
"""Random files."""


# The loader


def test_every_file_is_a_picture_or_a_sentence(tmp_path, record_property):
    """In one test, since 1000 tests of a millisecond each take longer to set up."""
    assert len(CORPUS) == len({one.name for one in CORPUS}) >= 300
    before, counts = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, dict.fromkeys((PICTURE, SENTENCE), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # As everywhere in the tests: none may come out of the loader.
        for one in CORPUS:
            got, said = outcome(one.write(tmp_path))
            assert one.expected in (got, EITHER), f"{one.name}: {got}, {said}"
            assert got == PICTURE or is_a_sentence(said), f"{one.name}: {said}"
            counts[got] += 1
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY
    record_property("pictures tried", len(CORPUS))
    record_property("pictures accepted", counts[PICTURE])
    record_property("pictures refused in a sentence", counts[SENTENCE])


def test_every_sound_file_shows_its_picture(tmp_path):
    """The left is blue and the right is red in every format; without colours, the top is darker than the bottom."""
    for one in CORPUS:
        if one.expected == PICTURE and one.name.split(".")[0] in ("1", "L", "LA", "I", "F", "I_16"):
            pixels = np.asarray(open_picture(one.write(tmp_path)).convert("L")).astype(int)
            assert pixels[-4:].mean() > pixels[:4].mean() + 60, one.name
        if one.expected == PICTURE and one.name.split(".")[0] in ("RGB", "CMYK", "LAB", "several", "progressive", "jpeg"):
            pixels = np.asarray(open_picture(one.write(tmp_path)).convert("RGB")).astype(int)
            assert pixels[:, :4, 2].mean() > pixels[:, :4, 0].mean() + 100, one.name
            assert pixels[:, -4:, 0].mean() > pixels[:, -4:, 2].mean() + 60, one.name


def test_pictures_come_upright_and_without_their_metadata(tmp_path):
    upright = hostile.gradient()
    turn = Image.Transpose
    transposed = [turn.FLIP_LEFT_RIGHT, turn.ROTATE_180, turn.FLIP_TOP_BOTTOM, turn.TRANSPOSE, turn.ROTATE_270, turn.TRANSVERSE,
                  turn.ROTATE_90]  # fmt: skip
    for orientation in range(1, 9):
        (one,) = [one for one in CORPUS if one.name == f"orientation_{orientation}.png"]
        assert hostile.SECRET in one.content
        path = tmp_path / "file.png"
        path.write_bytes(one.content)
        expected = upright.transpose(transposed[orientation - 2]) if orientation > 1 else upright
        opened = open_picture(path)
        assert opened.tobytes() == expected.tobytes()
        assert hostile.SECRET not in hostile.written(opened, "png")


@pytest.mark.parametrize("kind", ["eps", "ico", "ppm", "jpeg2000", "icns"])
def test_formats_that_are_not_listed_are_never_decoded(kind, tmp_path, monkeypatch):
    """PostScript would start a program, an icon may hold a picture larger than it says."""
    (one,) = [one for one in CORPUS if one.name == f"not_accepted.{kind}"]
    for name, (_, accept) in Image.OPEN.items():
        if name not in ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF"):
            monkeypatch.setitem(Image.OPEN, name, (lambda *_: pytest.fail("looked into"), accept))
    (tmp_path / "file.png").write_bytes(one.content)
    assert outcome(tmp_path / "file.png")[0] == SENTENCE


def test_random_changes_never_crash_the_loader(tmp_path, record_property):
    rng, path = random.Random(0), tmp_path / "file"
    sound = [one.content for one in CORPUS if one.expected == PICTURE and len(one.content) < 20_000]
    for _ in range(FUZZED):
        content = hostile.flipped(rng.choice(sound), rng, rng.choice([0.001, 0.003, 0.01, 0.05]))
        path.write_bytes(content)
        try:
            outcome(path)
        except Exception as error:
            pytest.fail(f"{error!r} from {base64.b64encode(content).decode()}")
    record_property("random files", FUZZED)


# Limits of a picture


# The command line


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@hostile.in_parts
def test_the_command_line_makes_a_picture_or_says_a_sentence(folder, capsys, monkeypatch, record_property, part):
    files = hostile.sent(part)
    for one in files:
        given = one.write(Path())
        wanted, _ = outcome(given)
        with monkeypatch.context() as patch:
            if wanted == SENTENCE:
                patch.setattr(
                    sys.modules["featviz.runtime.stream"], "load", lambda *_: pytest.fail("a network was loaded for it")
                )
            code = cli.main(["deepdream", str(given), "out.png", *(f"--{name}={value}" for name, value in QUICK.items())])
        said = capsys.readouterr().err.strip()  # A remark may stand before the error, in a line of its own.
        if wanted == PICTURE:
            assert code == cli.SUCCESS, (one.name, said)
            Path("out.png").unlink()
        else:
            assert code == cli.BAD_INPUT, one.name
            assert all(map(is_a_sentence, said.splitlines())), (one.name, said)
            assert not Path("out.png").exists()
    record_property("pictures on the command line", len(files))


# Page and API


def answered(server: str, image: dict, visitor: str = "") -> tuple[str, str]:
    """What a run ends with, and the sentence where that is an error."""
    answer = Visitor(server, visitor).run(image=image, **QUICK)
    return answer.event, answer.sentence if answer.event == "error" else ""


class Elsewhere(BaseHTTPRequestHandler):
    """Another server, which has the files: `/0/7` is the eighth of part 0."""

    def do_GET(self) -> None:
        part, i = map(int, self.path[1:].split("/"))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(hostile.sent(part)[i].content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Its address, as the guard takes for public what `server` looks up."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{PUBLIC}:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("way", ["uploaded", "as data", "by address"])
@hostile.in_parts
def test_the_server_answers_with_a_picture_or_a_sentence_and_serves_the_next(
    server, elsewhere, tmp_path, record_property, part, way
):
    for i, one in enumerate(hostile.sent(part)):
        if way == "uploaded":
            image = Visitor(server).upload(one.name, one.content)
        else:
            image = inline(one.content) if way == "as data" else file(path=f"{elsewhere}/{part}/{i}")
        wanted, _ = outcome(one.write(tmp_path))
        last, said = answered(server, image, f"198.51.100.{i % 200}")
        assert last == ("complete" if wanted == PICTURE else "error"), (one.name, said)
        assert last == "complete" or is_a_sentence(said), (one.name, said)
    record_property(f"pictures over HTTP, {way}", len(hostile.sent(part)))


ADDRESSES = [f"http://{host}/a.png" for host in ("127.0.0.1:1", "169.254.169.254", "nowhere.invalid")]
PATHS = ["/etc/passwd", "../../../etc/passwd", "app.py", "", "\0", "file:///etc/passwd", "a" * 5000]
DATA = ["data:", "data:image/png;base64,%%%", "data:image/png,hello", "data:text/html;base64,PGI+"]
VALUES = [3, "hello", [], {}, {"path": 5}, {"url": "javascript:alert(1)"}]
NO_FILES = [*(file(path=path) for path in (*ADDRESSES, *PATHS)), *(file(url=url) for url in DATA), *VALUES]


@pytest.mark.parametrize("image", NO_FILES)
def test_what_is_no_uploaded_file_is_refused_with_one_sentence(server, image):
    last, said = answered(server, image)
    assert last == "error"
    assert said.endswith(".")
    assert "our side" not in said
    path = image.get("path") if isinstance(image, dict) else None
    assert path not in ADDRESSES or "upload it instead" in said
    assert path not in PATHS or "/" not in said


# Recipes: every field of every one


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=40), st.binary(max_size=20),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
    st.sampled_from(["nan", "inf", "-inf", "1e999", "<script>", "\0", "../../etc/passwd", "vgg19/relu4_4 ", "٣", 10**400, -0.0]),
)  # fmt: skip


def accepted(field) -> st.SearchStrategy:
    """What a field takes."""
    low, high = bounds(field)
    if choices(field):
        return st.sampled_from(choices(field))
    if field.annotation is bool:
        return st.booleans()
    if field.annotation is int:
        return st.integers(low, high)
    if field.annotation is float:
        return st.floats(low, high, allow_nan=False, allow_infinity=False)
    return st.just(field.default)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@settings(max_examples=100, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_field_takes_what_it_says_and_refuses_the_rest_in_a_sentence(recipe, data):
    name = data.draw(st.sampled_from(list(recipe.model_fields)))
    field = recipe.model_fields[name]
    good = data.draw(accepted(field))
    with suppress(FieldError):  # Two fields that do not go together.
        assert getattr(recipe(**{name: good}), name) == good
    bad = data.draw(ANYTHING)
    try:
        made = recipe(**{name: bad})
    except FeatvizError as error:
        said = str(error)
        assert 10 < len(said) < 400
        assert "pydantic" not in said
        assert "Traceback" not in said
    else:
        low, high = bounds(field)
        value = getattr(made, name)
        assert type(value) is field.annotation or value in choices(field)
        assert low is None or value >= low
        assert high is None or value <= high
