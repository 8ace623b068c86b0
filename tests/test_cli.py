"""The command line, from its help to its last exit code."""

import io
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import clips
import numpy as np
import pytest
from PIL import Image

from featviz import __version__, cli
from featviz.errors import DivergedError, WeightsError
from featviz.media.saving import NOTE, save
from featviz.networks.hub import DownloadProgress
from featviz.recipes import metadata, presets
from featviz.recipes.recipe import Recipe, bounds, choices
from featviz.recipes.table import RECIPES
from featviz.runtime.stream import Preview

SMALL = 64


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Change into an empty folder with three pictures of noise."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("image", "content", "style")):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"{name}.png")
    return tmp_path


@pytest.fixture
def streamed(monkeypatch) -> Callable:
    """A function that sets the previews of each run, and the error that ends it. Returns the list of the recipes that are run."""

    def replace_by(*previews: Preview, error: BaseException | None = None) -> list[Recipe]:
        def stream(recipe, **_):
            seen.append(recipe)
            yield from previews
            if error:
                raise error

        seen: list[Recipe] = []
        monkeypatch.setattr(cli, "stream", stream)
        return seen

    return replace_by


@pytest.fixture
def no_work(streamed):
    """Fails when anything is run."""
    streamed(error=AssertionError("work began"))


def output(recipe: type[Recipe]) -> str:
    return {"picture": "out.png", "video": "out.mp4", "numbers": ""}[recipe.produces]


def command(recipe: type[Recipe], out: str | None = None, **options: object) -> list[str]:
    """The command of a run that is as short as the recipe allows, with further options."""
    lengths = [name for name in ("steps", "octaves", "scales", "seconds", "most") if name in recipe.model_fields]
    short = {name: bounds(recipe.model_fields[name])[0] for name in lengths}
    options = {**short, "size": SMALL, "device": "cpu", **options}
    flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    files = filter(None, [*(f"{role}.png" for role in recipe.images), out or output(recipe)])
    return [recipe.name.replace("_", "-"), *files, *flags]


def of_every_recipe(test):
    return pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)(test)


FILES = [recipe for recipe in RECIPES.values() if recipe.produces != "numbers" and recipe.name != "layer_time_lapse"]
FROM_PICTURES = [
    recipe
    for recipe in FILES
    if recipe.images and recipe.produces == "picture" and recipe.name not in ("activation_maps", "evidence")
]
"""Recipes that write a file, but for the time lapse, which takes as long as all others; those that write a picture of the size asked."""


def preview(step: int, steps: int = 9, picture: Image.Image | None = None) -> Preview:
    return Preview(step, steps, "octave 1 of 1", step / steps, 1.0, 0.5, picture or Image.new("RGB", (20, 10), (step, 0, 0)))


@of_every_recipe
def test_help_shows_every_field_with_its_range_and_default(recipe, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "9999")  # So that no line is wrapped.
    with pytest.raises(SystemExit, match="0"):
        cli.main([recipe.name.replace("_", "-"), "--help"])
    text = re.sub(r"\n {24}", " ", capsys.readouterr().out)  # Argparse gives a long option a line of its own.
    lines = {found[1]: found[0] for found in re.finditer(r"^  --([\w-]+) .*$", text, re.MULTILINE)}
    common = {"device", "estimate", "film", "finish", "frames", "network", "preset", "ray", "recipe", "shard", "sheet",
              "style"}  # fmt: skip
    assert lines.keys() - common == {
        name.replace("_", "-") for name in (*recipe.model_fields, *recipe.optional_images) if name != "network"
    }
    assert "NAME=ARCHITECTURE:FILE" in lines["network"]
    assert all(meaning in lines[role.replace("_", "-")] for role, meaning in recipe.optional_images.items())
    for name, field in recipe.model_fields.items():
        line = lines[name.replace("_", "-")]
        assert field.description in line
        assert line.endswith(f"Default: {field.default if field.default != '' else 'none'}.")
        assert all(choice in line for choice in choices(field))
        low, high = bounds(field)
        if high is not None:
            shown = re.search(r"From (\S+) to (\S+)\.", line)
            assert [float(number) for number in shown.groups()] == pytest.approx([low, high], rel=1e-5)
    for role, meaning in recipe.images.items():
        assert re.search(rf"^  {role} +{re.escape(meaning)}$", text, re.MULTILINE)


@pytest.mark.parametrize("recipe", FILES, ids=lambda recipe: recipe.name)
def test_it_makes_a_file_and_from_what_is_in_it_the_same_bytes(recipe, capsys):
    seed = {"seed": 3} if "seed" in recipe.model_fields else {}
    made, again = Path(output(recipe)), f"again{Path(output(recipe)).suffix}"
    assert cli.main(command(recipe, **seed)) == 0
    if recipe.produces == "video":
        with av.open(made) as file:
            assert {frame.width for frame in file.decode(video=0)} == {SMALL}
    elif recipe in FROM_PICTURES:
        with Image.open(made) as picture, Image.open(f"{next(iter(recipe.images))}.png") as given:
            assert (picture.size, picture.mode) == ((64, 43), "RGB")
            assert np.abs(np.asarray(given.resize(picture.size)).astype(float) - np.asarray(picture)).mean() > 0.5
    assert cli.main(["rerun", str(made), *(f"{role}.png" for role in recipe.images), again, "--device", "cpu"]) == 0
    assert Path(again).read_bytes() == made.read_bytes()
    out, err = capsys.readouterr()
    assert ({str(made), again} <= {*out.splitlines()}, err) == (True, "")


def test_it_prints_names_and_writes_nothing(capsys):
    shutil.copy(presets.FOLDER / "cat.jpg", "image.png")
    before = set(Path().iterdir())
    assert cli.main(["classification", "image.png", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert re.fullmatch(r"0\.\d{3}  (Egyptian cat|tabby|tiger cat)", lines[0])
    assert set(Path().iterdir()) == before
    assert cli.main(["evidence", "image.png", "out.png", "--count", "1", "--size", "96", "--device", "cpu"]) == 0
    out, logit, *terms = capsys.readouterr().out.splitlines()
    assert out == "out.png"
    assert float(logit.split()[0]) == pytest.approx(sum(float(term.split()[0]) for term in terms), abs=0.003)  # Of rounding.
    assert [term.split("  ")[1] for term in terms[-2:]] == ["other channels", "bias"]


@pytest.mark.parametrize(
    ("out", "kind", "mode"),
    [("a.png", "PNG", "RGBA"), ("a.jpg", "JPEG", "RGB"), ("a.JPEG", "JPEG", "RGB"), ("a.webp", "WEBP", "RGBA"), ("日本.png", "PNG", "RGBA")],
)  # fmt: skip
def test_the_extension_decides_the_format_and_whether_transparency_is_kept(out, kind, mode, streamed, monkeypatch):
    """Also if the terminal cannot show a character of the file name: here its encoding is cp1252."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252", write_through=True))
    streamed(preview(9, picture=Image.new("RGBA", (20, 10), (9, 9, 9, 100))))
    assert cli.main(command(RECIPES["deepdream"], out)) == 0
    assert sys.stdout.buffer.getvalue().strip() == out.encode("ascii", "backslashreplace")
    with Image.open(out) as made:
        assert (made.format, made.size, made.mode) == (kind, (20, 10), mode)


@of_every_recipe
def test_options_reach_the_recipe_and_other_fields_keep_their_defaults(recipe, monkeypatch):
    seen = []

    def stream(*args, **kwargs):
        seen.append((*args, kwargs))
        yield replace(preview(9), is_video_frame=recipe.produces == "video")

    def another(field):
        if field.annotation is bool:
            return not field.default
        return next(value for value in choices(field) or bounds(field)[::-1] if value != field.default)

    monkeypatch.setattr(cli, "stream", stream)
    monkeypatch.setattr(cli, "prepare", lambda *_, **__: iter(()))  # Some of the others would have to be downloaded.
    typed = [recipe.name.replace("_", "-"), *(f"{role}.png" for role in recipe.images), *filter(None, [output(recipe)])]
    pictures = {role: f"{role}.png" for role in recipe.images}
    # Text, of which each field takes its own kind, goes through the command line in tests/recipes/test_metadata.py.
    settable = {name: field for name, field in recipe.model_fields.items() if field.annotation is not str or choices(field)}
    other = {name: another(field) for name, field in settable.items() if len(choices(field)) != 1}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in other.items()]
    assert cli.main(typed) == 0
    assert cli.main([*typed, *flags, "--device=cpu"]) == 0
    assert seen == [(recipe(), {"device": "auto", **pictures}), (recipe(**other), {"device": "cpu", **pictures})]
    assert all(getattr(recipe(), name) != value for name, value in other.items())


def test_the_progress_and_the_failure_of_a_download_are_shown(tmp_path, monkeypatch, capsys):
    shown = []

    def arriving(recipe, **given):
        shown.append((recipe.layer, given["device"], given["image"]))
        yield DownloadProgress("org/model", 25_000_000, 50_000_000, 12.4)
        raise WeightsError("It broke off.")

    monkeypatch.setattr(cli, "prepare", arriving)
    monkeypatch.setattr(cli.tqdm, "set_postfix_str", lambda bar, text: shown.append((bar.n, text)))
    arguments = ["deepdream", "image.png", str(tmp_path / "out.png"), "--layer=googlenet/inception4c", "--device=cpu"]
    assert cli.main(arguments) == 1
    assert shown[0] == ("googlenet/inception4c", "cpu", "image.png")
    assert shown[1] == (0.5, "Downloading org/model · 25 of 50 MB · about 12 s left")
    assert capsys.readouterr().err.strip().endswith("It broke off.")


def test_an_output_without_permission_is_refused_before_any_work(no_work, capsys, monkeypatch):
    monkeypatch.setattr(cli.os, "access", lambda path, mode: False)  # To root, who may run this, all is permitted.
    assert cli.main(["deepdream", "image.png", "out.png"]) == 2
    assert capsys.readouterr().err == "The output 'out.png' cannot be written; check its permissions.\n"


@pytest.mark.parametrize(
    ("command", "is_frame", "sentence"),
    [
        ("deepdream image.png out.png", [], "Stopped before the first step; nothing was written."),
        ("deepdream image.png out.png", [False, False], "Stopped at step 2 of 9; the picture so far is in out.png"),
        ("deepdream-zoom image.png out.mp4", [False], "Stopped before the first picture; nothing was written."),
        ("deepdream-zoom image.png out.mp4", [True, True, False], "Stopped at step 2 of 9; the video so far is in out.mp4"),
    ],
)
def test_ctrl_c_keeps_what_there_is(command, is_frame, sentence, capsys, streamed):
    previews = (replace(preview(step), is_video_frame=each) for step, each in enumerate(is_frame, start=1))
    streamed(*previews, error=KeyboardInterrupt())
    assert cli.main(command.split()) == 130
    assert capsys.readouterr() == ("", f"{sentence}\n")
    if "nothing" in sentence:
        assert not [*Path().glob("out.*")]
    elif any(is_frame):
        with av.open("out.mp4") as made:
            assert len(list(made.decode(video=0))) == 2
    else:
        with Image.open("out.png") as made:
            assert made.getpixel((0, 0)) == (2, 0, 0)


def test_the_gradient_image_is_written_beside_the_result(streamed):
    streamed(replace(preview(9), gradient=Image.new("RGB", (20, 10), (128, 128, 128))))
    assert cli.main(["deepdream", "image.png", "out.jpg", "--show-gradient", "true"]) == 0
    with Image.open("out_gradient.png") as made:
        assert made.getpixel((3, 3)) == (128, 128, 128)


def test_a_full_disk_is_one_sentence(capsys, monkeypatch, streamed):
    def save(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    streamed(preview(9))
    assert cli.main(["deepdream", "image.png", "out.png"]) == 1
    assert capsys.readouterr().err == "The output 'out.png' could not be written: No space left on device.\n"


def test_a_terminal_sees_progress_and_stdout_only_the_path(capsys, monkeypatch, streamed):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    streamed(*map(preview, (1, 5, 9)))
    assert cli.main(["deepdream", "image.png", "out.png"]) == 0
    shown = terminal.getvalue()
    assert " 56%|" in shown
    assert "100%|" in shown
    assert "octave 1 of 1, loss 0.5" in shown
    assert capsys.readouterr().out == "out.png\n"


def test_a_mask_and_a_guide_are_options(folder):
    mask = Image.new("L", (90, 60))
    mask.paste(255, (0, 0, 45, 60))
    mask.save("mask.png")
    options = {"layer": "efficientnet_lite0/block5", "mask": "mask.png", "guide": "style.png", "feather": 0, "steps": 2}
    assert cli.main(command(RECIPES["deepdream"], **options)) == 0
    with Image.open("image.png") as image, Image.open("out.png") as written:
        change = np.abs(np.asarray(written).astype(int) - np.asarray(image.resize((SMALL, 43), Image.Resampling.BICUBIC)))
    assert change[:, 34:].mean() < 1.5  # Two ways to resize differ by that.
    assert change[:, :30].mean() > 3


def test_a_run_that_meets_nan_writes_the_last_good_picture_and_one_sentence(capsys, streamed):
    streamed(preview(3), error=DivergedError("The numbers ran out of range."))
    assert cli.main(command(RECIPES["deepdream"])) == 1
    with Image.open("out.png") as written:
        assert written.getpixel((0, 0)) == (3, 0, 0)
    assert capsys.readouterr().err.splitlines()[-1] == "The numbers ran out of range."


# Presets, estimates, the sheet, and rerun


def test_a_finish_applies_to_the_preset_and_options_override_it(streamed):
    seen = streamed(preview(9))
    eyes = next(preset for preset in presets.read_presets() if preset.name == "eyes").recipe
    assert cli.main(["deepdream", "image.png", "out.png", "--preset", "eyes", "--finish", "fine"]) == 0
    assert cli.main(["deepdream", "image.png", "out.png", "--finish", "draft", "--size", "128"]) == 0
    fine = eyes.replace(**presets.FINISHES["Fine"].of(eyes))
    draft = RECIPES["deepdream"]().replace(size=128, steps=2)  # Half of 4.
    assert seen == [fine, draft]
    assert (fine.size, fine.steps) == (1024, round(eyes.steps * 1.5))


@of_every_recipe
def test_an_estimate_is_one_line_and_nothing_is_made(recipe, capsys, no_work):
    assert cli.main([*command(recipe), "--estimate"]) == 0
    assert re.fullmatch(r"About \d+ (s|min|h) and \d+\.\d GB on this machine\.\n", capsys.readouterr().out)
    assert not output(recipe) or not Path(output(recipe)).exists()


def test_styles_are_a_list_or_one_a_role(no_work, monkeypatch, tmp_path, capsys):
    seen = []
    monkeypatch.setattr(cli, "estimate", lambda recipe, pictures, device: seen.append(pictures) or "About nothing.")
    sizes = {"content": (80, 60), "style": (90, 70), "style2": (70, 50), "style3": (50, 70), "regions": (60, 60)}
    for role, size in sizes.items():
        Image.linear_gradient("L").resize(size).save(tmp_path / f"{role}.png")
    files = [f"{tmp_path}/{role}.png" for role in sizes]
    more = (["--style", files[2], "--style", files[3]], ["--style2", files[2], "--style3", files[3]])
    for styles in more:
        assert cli.main(["style-transfer", *files[:2], "out.png", *styles, "--regions", files[4], "--estimate"]) == 0
    assert [{role: header.size for role, header in pictures.items()} for pictures in seen] == [sizes, sizes]
    assert cli.main(["style-transfer", *files[:2], "out.png", *more[0], *more[1], "--estimate"]) == cli.BAD_INPUT
    assert capsys.readouterr().err == "style2 is also in the list of style; give it once.\n"


def test_a_film_is_written_beside_the_picture_from_every_step(monkeypatch, capsys):
    def stream(recipe, *, every, **_):
        assert every == 0
        yield from (preview(step, 3, Image.new("RGB", (20, 10), (60 * step, 0, 0))) for step in (1, 2, 3))

    monkeypatch.setattr(cli, "stream", stream)
    assert cli.main(["deepdream", "image.png", "out.png", "--film", "out.mp4"]) == 0
    assert capsys.readouterr().out == "out.png\n"
    with Image.open("out.png") as made, av.open("out.mp4") as film:
        assert made.getpixel((0, 0)) == (180, 0, 0)
        reds = [int(frame.to_ndarray(format="rgb24")[5, 5, 0]) for frame in film.decode(video=0)]
    assert (len(reds), sorted({round(red / 60) for red in reds})) == (144, [1, 2, 3])


def test_a_rerun_reports_what_differs(capsys, streamed):
    streamed(preview(9))
    made = Image.new("RGB", (20, 16))
    made.info[NOTE] = '{"recipe": "deepdream", "fields": {"steps": 2, "swirl": 1}, "featviz": "0.0.1"}'
    save(made, "made.png")
    assert cli.main(["rerun", "made.png", "image.png", "out.png"]) == 0
    out, err = capsys.readouterr()
    assert out == "out.png\n"
    assert [line.partition(";")[0] for line in err.splitlines()] == [
        "DeepDream has no parameter 'swirl'",
        f"It was made by featviz 0.0.1; this is {__version__}, whose results may differ.".partition(";")[0],
    ]


# A video in, a video out


CLIP = ["--layer", "efficientnet_lite0/block2", "--size", "64", "--octaves", "1", "--steps", "1"]


def test_a_video_becomes_a_video_with_sound_and_is_made_again_from_its_recipe(tmp_path, capsys):
    source, out, again = (str(tmp_path / name) for name in ("clip.mp4", "out.mp4", "again.mp4"))
    clips.clip(Path(source))
    assert cli.main(["deepdream", source, out, *CLIP]) == 0
    assert cli.main(["rerun", out, source, again]) == 0
    assert capsys.readouterr().out.splitlines() == [out, again]
    for path in (out, again):
        assert clips.times(Path(path)) == clips.TIMES
        assert clips.packets(Path(path))
    assert metadata.find(out) == metadata.find(again)
    assert cli.main(["deepdream", source, out, *CLIP, "--estimate"]) == 0
    assert capsys.readouterr().out.startswith("About ")
