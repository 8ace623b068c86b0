"""Many pictures: nothing is done twice, one that cannot be used costs only itself, and shards cover all exactly once."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from featviz import cli, recipe_of, run, save
from featviz.errors import ImageError, InputError
from featviz.media.video import Video, count_frames, frames
from featviz.recipes import metadata
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.deepdream_zoom import DeepDreamZoom
from featviz.recipes.style_transfer import StyleTransfer
from featviz.recipes.table import RECIPES
from featviz.runtime import batch
from featviz.runtime.batch import Shard, make_all

RECIPE = DeepDream(layer="efficientnet_lite0/block2", size=64, octaves=1, steps=1)
TYPED = ["--layer=efficientnet_lite0/block2", "--size=64", "--octaves=1", "--steps=1", "--device=cpu"]


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """Three pictures, one that is damaged, and what is none."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.jpg", "c.png")):
        noise(seed).save(folder / name)
    (folder / "bad.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("none either")
    noise(9).save(folder / ".hidden.png")
    return folder


@pytest.fixture
def no_work(monkeypatch):
    """Stands in for a run: who was asked for, and a picture of one colour."""
    asked = []

    def stand_in(recipe, *, device, image, **others):
        asked.append(Path(image).name if not isinstance(image, Image.Image) else image.getpixel((0, 0)))
        if "bad" in str(asked[-1]):
            raise ImageError("The image is not a picture.")
        return run(RECIPE, image=noise(0)) if not asked[1:] else noise(1)

    monkeypatch.setattr(batch, "run", stand_in)
    return asked


def files(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def test_every_picture_is_made_as_if_alone_and_a_bad_one_is_reported_and_skipped(source):
    outcomes = list(make_all(RECIPE, source, "out", device="cpu"))
    assert [(one.out.name, one.made, one.error is None) for one in outcomes] == [
        ("a.png", True, True), ("b.png", True, True), ("bad.png", False, False), ("c.png", True, True),
    ]  # fmt: skip
    assert "is not a picture" in str(outcomes[2].error)
    assert files("out") == {"a.png", "b.png", "c.png"}
    with Image.open("out/b.png") as made:
        assert np.array_equal(np.asarray(made), np.asarray(run(RECIPE, device="cpu", image=source / "b.jpg")))
    assert recipe_of("out/c.png") == RECIPE


def test_what_is_there_is_not_made_again_and_what_is_not_ours_is_not_touched(source, no_work):
    Path("out").mkdir()
    save(run(RECIPE, image=noise(0)), "out/a.png")
    noise(5).save("out/b.png")
    save(run(RECIPE.replace(seed=1), image=noise(0)), "out/c.png")
    before = {name: Path("out", name).read_bytes() for name in files("out")}
    outcomes = {one.out.stem: one for one in make_all(RECIPE, source, "out")}
    assert no_work == ["bad.png"]
    assert not any(one.made for one in outcomes.values())
    assert outcomes["a"].error is None
    assert "no recipe in this file" in str(outcomes["b"].error)
    assert "made by another recipe" in str(outcomes["c"].error)
    assert {name: Path("out", name).read_bytes() for name in files("out")} == before


def test_a_result_that_is_interrupted_while_it_is_written_is_none(source, monkeypatch):
    def half(picture, path):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        list(make_all(RECIPE, source, "out"))
    assert files("out") == set()


def test_pictures_that_differ_only_in_their_extension_keep_it(source):
    noise(3).save(source / "a.bmp")
    assert [one.out.name for one in make_all(RECIPE, source, "out")] == [
        "a.bmp.png", "a.png.png", "b.png", "bad.png", "c.png",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 7, 16])
@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_shards_cover_everything_once_and_evenly(count, n):
    shards = [Shard(i, n) for i in range(1, n + 1)]
    parts = [[number for number in range(count) if shard.has(number)] for shard in shards]
    assert sorted(chain.from_iterable(parts)) == list(range(count))
    assert [len(part) for part in parts] == [shard.share(count) for shard in shards]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_shard_does_its_pictures_only(source, no_work):
    list(make_all(RECIPE, source, "out", shard=Shard.read("2/2")))
    assert no_work == ["b.jpg", "c.png"]


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", "1.5/2"])
def test_a_shard_that_is_none_is_said(text):
    with pytest.raises(InputError, match="expected 'i/n' with i from 1 to n"):
        Shard.read(text)


def test_the_frames_of_a_video_are_pictures_too(source):
    with Video("clip.mp4", 10) as video:
        for level in (40, 120, 200):
            video.write(Image.new("RGB", (48, 32), (level, level, level)))
    assert count_frames("clip.mp4") == 3
    assert [frame.getpixel((9, 9))[0] for frame in frames("clip.mp4")] == pytest.approx([40, 120, 200], abs=3)
    outcomes = list(make_all(RECIPE, "clip.mp4", "out", shard=Shard(1, 2), device="cpu"))
    assert [(one.out.name, one.made) for one in outcomes] == [("000001.png", True), ("000003.png", True)]
    means = [np.asarray(Image.open(one.out)).mean() for one in outcomes]
    assert means == pytest.approx([40, 200], abs=15)
    Path("bad.mp4").write_bytes(b"no video")
    assert count_frames("bad.mp4") == 0
    with pytest.raises(InputError, match=r"'bad\.mp4' is no video that can be read"):
        list(make_all(RECIPE, "bad.mp4", "out"))


@pytest.mark.parametrize("name", ["dream.mp4", "dream.PNG", "sub/dream.jpeg", "dream.mov", "dream.gif"])
def test_a_folder_with_the_name_of_a_file_is_refused(name, source, no_work, capsys):
    assert cli.main(["deepdream", "in", name, *TYPED]) == cli.BAD_INPUT
    assert f"'{Path(name)}' is the name of a file; many pictures are written into a folder" in capsys.readouterr().err
    assert not Path(name).exists()
    assert no_work == []


def test_a_folder_that_is_there_may_have_any_name(source, no_work):
    Path("dream.mp4").mkdir()
    assert [one.made for one in make_all(RECIPE, source, "dream.mp4")] == [True, True, False, True]


def test_what_cannot_be_a_batch_is_said_before_any_work(source, no_work):
    empty = source.parent / "empty"
    empty.mkdir()
    for wrong, sentence in (
        ((RECIPE, empty, "out"), "There is no picture in"),
        ((RECIPE, source, source), "is where the pictures are"),
        ((RECIPE, source, source / "notes.txt"), "cannot be made"),
        ((RECIPE, source, source / "a.png"), "is the name of a file"),
        ((DeepDreamZoom(), source, "out"), "cannot be run on many pictures"),
        ((RECIPE.replace(outside=RECIPE.layer), source, "out"), "outside has no effect without mask"),
        ((RECIPE.replace(channels="9999"), source, "out"), "has no channel 9999"),
    ):
        with pytest.raises(InputError, match=sentence):
            list(make_all(*wrong))
    assert no_work == []


def test_a_folder_has_all_that_is_readable_and_says_what_is_skipped(source, no_work, capsys):
    noise(4).save(source / "d.avif")
    pillow_heif.from_pillow(noise(5)).save(source / "e.HEIC")
    (source / "bad.png").unlink()
    for name in ("one", "two.png"):
        (source / name).mkdir()
    for name in ("a.xmp", "b.xmp", "c.xmp"):
        (source / name).write_text("x")
    assert cli.main(["deepdream", "in", "out", *TYPED]) == cli.FINE
    assert no_work == ["a.png", "b.jpg", "c.png", "d.avif", "e.HEIC"]
    said = capsys.readouterr().err
    assert (
        "Skipped in 'in': a.xmp, b.xmp, c.xmp and 1 more; PNG, JPEG, WebP, AVIF, HEIC, GIF, BMP and TIFF files are read." in said
    )
    assert "Skipped in 'in': one, two.png; subfolders are not searched." in said
    assert ".hidden.png" not in said
    assert batch.count(source) == 5


@pytest.mark.parametrize("extension", ["gif", "webp", "avif", "png"])
def test_the_frames_of_an_animated_picture_are_pictures_too(source, extension, capsys):
    levels = [Image.new("RGB", (64, 48), (level, level, level)) for level in (40, 120, 200)]
    levels[0].save(f"clip.{extension}", save_all=True, append_images=levels[1:])
    assert batch.count(f"clip.{extension}") == 3
    assert cli.main(["deepdream", f"clip.{extension}", "out", *TYPED, "--shard=1/2"]) == cli.FINE
    means = [np.asarray(Image.open(f"out/{name}.png")).mean() for name in ("000001", "000003")]
    assert means == pytest.approx([40, 200], abs=20)
    capsys.readouterr()
    assert cli.main(["deepdream", f"clip.{extension}", "one.png", *TYPED]) == cli.FINE
    assert "The image has 3 frames; the first one is used." in capsys.readouterr().err
    assert Path("one.png").is_file()


# On the command line


def test_a_folder_in_place_of_the_picture_and_again_after_an_interruption(source, capsys, monkeypatch):
    one_at_a_time = batch.run

    def interrupted(recipe, *, image, **others):
        if image.name == "b.jpg":
            raise KeyboardInterrupt
        return one_at_a_time(recipe, image=image, **others)

    monkeypatch.setattr(batch, "run", interrupted)
    assert cli.main(["deepdream", "in", "out", *TYPED]) == cli.INTERRUPTED
    said = capsys.readouterr()
    assert said.out.split() == [str(Path("out/a.png"))]
    assert said.err.endswith("Stopped; the same command goes on from here: 1 made\n")
    monkeypatch.setattr(batch, "run", one_at_a_time)
    assert cli.main(["deepdream", "in", "out", *TYPED]) == cli.FAILED
    said = capsys.readouterr()
    assert said.out.split() == [str(Path("out/b.png")), str(Path("out/c.png"))]
    assert f"{Path('out/bad.png')}: The image is not a picture" in said.err
    assert said.err.endswith("1 there already, 2 made, 1 failed\n")
    (source / "bad.png").unlink()
    assert cli.main(["deepdream", "in", "out", *TYPED, "--shard=1/2"]) == cli.FINE
    assert capsys.readouterr().err.endswith("2 there already\n")


def test_a_style_is_shared_by_all_contents_and_checked_first(source, capsys):
    noise(4).save("style.png")
    small = ["--network=efficientnet_lite0", "--size=64", "--scales=1", "--steps=1", "--device=cpu"]
    (source / "bad.png").unlink()
    assert cli.main(["style-transfer", "in", "missing.png", "out", *small]) == cli.BAD_INPUT
    assert "'missing.png' does not exist" in capsys.readouterr().err
    assert not Path("out").exists()
    assert cli.main(["style-transfer", "in", "style.png", "out", *small]) == cli.FINE
    assert files("out") == {"a.png", "b.png", "c.png"}
    assert recipe_of("out/a.png") == StyleTransfer(network="efficientnet_lite0", size=64, scales=1, steps=1)


SMALL_STYLE = ["--network=efficientnet_lite0", "--size=64", "--scales=1", "--steps=1", "--device=cpu"]


def test_results_that_were_made_of_other_pictures_are_said_and_kept(source, capsys):
    (source / "bad.png").unlink()
    noise(4).save("one.png")
    noise(5).save("other.png")
    command = ["style-transfer", "in", "one.png", "out", *SMALL_STYLE]
    assert cli.main(command) == cli.FINE
    before = {name: Path("out", name).read_bytes() for name in files("out")}
    capsys.readouterr()

    assert cli.main(["style-transfer", "in", "other.png", "out", *SMALL_STYLE]) == cli.FAILED
    said = capsys.readouterr()
    assert said.out == ""
    wrong = "it was made of another style; remove it, or choose another folder for the results."
    assert [line for line in said.err.splitlines() if "made of" in line] == [
        f"{Path('out', name)}: {wrong}" for name in sorted(before)
    ]
    assert said.err.endswith("3 failed\n")

    noise(4).convert("RGBA").save("same.webp", lossless=True)  # The pixels count, not the file.
    assert cli.main(["style-transfer", "in", "same.webp", "out", *SMALL_STYLE]) == cli.FINE

    noise(6).save(source / "c.png")
    assert cli.main(command) == cli.FAILED
    said = capsys.readouterr()
    assert f"{Path('out/c.png')}: it was made of another content; remove it" in said.err
    assert said.err.endswith("2 there already, 1 failed\n")

    Image.new("L", (60, 40), 255).save("mask.png")
    Path("out/c.png").unlink()
    assert cli.main([*command, "--mask=mask.png"]) == cli.FAILED
    assert f"{Path('out/a.png')}: it was made of another mask; remove it" in capsys.readouterr().err
    assert {name: Path("out", name).read_bytes() for name in ("a.png", "b.png")} == {n: before[n] for n in ("a.png", "b.png")}


def test_an_old_result_that_does_not_say_what_it_was_made_of_counts_as_done(source):
    Path("out").mkdir()
    picture = noise(0)
    picture.info["featviz"] = metadata.note(RECIPE, ["image"], whole=True)
    save(picture, "out/b.png")
    outcomes = {one.out.stem: one for one in make_all(RECIPE, source, "out", shard=Shard(2, 4))}
    assert (outcomes["b"].made, outcomes["b"].error) == (False, None)


def test_a_recipe_from_a_file_is_what_is_run_and_options_beside_it_go_first(source, monkeypatch):
    seen = []
    monkeypatch.setattr(cli.batch, "make_all", lambda recipe, *places, **others: seen.append(recipe) or (_ for _ in ()))
    Path("r.json").write_text(json.dumps({"recipe": "deepdream", "fields": {"size": 128, "steps": 3}}))
    save(run(RECIPE, image=noise(0)), "made.jpg")
    assert cli.main(["deepdream", "in", "out", "--recipe", "r.json"]) == 0
    assert cli.main(["deepdream", "in", "out", "--recipe", "r.json", "--steps", "4"]) == 0
    assert cli.main(["deepdream", "in", "out", "--recipe", "made.jpg", "--seed", "7"]) == 0
    assert seen == [DeepDream(size=128, steps=3), DeepDream(size=128, steps=4), RECIPE.replace(seed=7)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "'r.json' cannot be read: No such file"),
        ("{", "'r.json' is not JSON"),
        ("[1]", "This is no recipe"),
        ('{"recipe": "style_transfer"}', "is a recipe of Style Transfer; expected one of DeepDream"),
    ],
)
def test_a_file_without_such_a_recipe_is_said(source, text, sentence, capsys):
    if text is not None:
        Path("r.json").write_text(text)
    assert cli.main(["deepdream", "in/a.png", "out.png", "--recipe", "r.json"]) == cli.BAD_INPUT
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["in/a.png", "out.png", "--shard=1/2"], "there is one picture"),
        (["in", "out", "--shard=3/2"], "The shard is '3/2'"),
        (["in", "out", "--estimate"], "--estimate takes one picture"),
        (["in", "out", "--sheet"], "--sheet takes one picture"),
    ],
)
def test_options_that_do_not_go_together_are_said(source, typed, sentence, capsys):
    assert cli.main(["deepdream", *typed]) == cli.BAD_INPUT
    assert sentence in capsys.readouterr().err


def test_every_recipe_that_takes_a_picture_and_makes_one_takes_shards(capsys):
    for name, recipe in RECIPES.items():
        with pytest.raises(SystemExit):
            cli.main([name.replace("_", "-"), "--help"])
        assert ("--shard" in capsys.readouterr().out) == (bool(recipe.images) and recipe.produces == "picture")


def test_avi_is_a_video_and_a_folder_is_a_batch(tmp_path):
    assert batch.is_batch(tmp_path)
    assert batch.is_batch("clip.AVI")
    assert not batch.is_batch("cat.png")
