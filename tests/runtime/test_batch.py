"""Batches: existing results are skipped, a bad picture does not stop the others, and shards cover each picture exactly once."""

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from featviz import cli, recipe_of, run, save
from featviz.errors import ImageError, InputError
from featviz.media.video import Video
from featviz.recipes import metadata
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.style_transfer import StyleTransfer
from featviz.recipes.table import RECIPES
from featviz.runtime import batch, cluster
from featviz.runtime.batch import Shard, run_batch

RECIPE = DeepDream(layer="efficientnet_lite0/block2", size=64, octaves=1, steps=1)
TYPED = ["--layer=efficientnet_lite0/block2", "--size=64", "--octaves=1", "--steps=1", "--device=cpu"]


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """A folder with three pictures, a damaged one, a hidden one and a text file."""
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
    """Replace `run` by a stand-in; return the list of the pictures that it is called with."""
    asked = []

    def stand_in(recipe, *, device, image, **others):
        asked.append(Path(image).name if not isinstance(image, Image.Image) else image.getpixel((0, 0)))
        if "bad" in str(asked[-1]):
            raise ImageError("The image is not a picture.")
        return run(RECIPE, image=noise(0)) if not asked[1:] else noise(1)

    monkeypatch.setattr(cluster, "run", stand_in)
    return asked


def files(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def test_each_result_equals_a_single_run_and_a_bad_picture_is_reported_and_skipped(source):
    outcomes = list(run_batch(RECIPE, source, "out", device="cpu"))
    assert [(outcome.out.name, outcome.made, outcome.error is None) for outcome in outcomes] == [
        ("a.png", True, True), ("b.png", True, True), ("bad.png", False, False), ("c.png", True, True),
    ]  # fmt: skip
    assert "is not a picture" in str(outcomes[2].error)
    assert files("out") == {"a.png", "b.png", "c.png"}
    with Image.open("out/b.png") as made:
        assert np.array_equal(np.asarray(made), np.asarray(run(RECIPE, device="cpu", image=source / "b.jpg")))
    assert recipe_of("out/c.png") == RECIPE


def test_existing_results_are_skipped_and_other_files_are_not_overwritten(source, no_work):
    Path("out").mkdir()
    save(run(RECIPE, image=noise(0)), "out/a.png")
    noise(5).save("out/b.png")
    save(run(RECIPE.replace(seed=1), image=noise(0)), "out/c.png")
    before = {name: Path("out", name).read_bytes() for name in files("out")}
    outcomes = {outcome.out.stem: outcome for outcome in run_batch(RECIPE, source, "out")}
    assert no_work == ["bad.png"]
    assert not any(outcome.made for outcome in outcomes.values())
    assert outcomes["a"].error is None
    assert "no recipe in this file" in str(outcomes["b"].error)
    assert "made by another recipe" in str(outcomes["c"].error)
    assert {name: Path("out", name).read_bytes() for name in files("out")} == before


def test_a_refused_batch_makes_no_folder(source):
    with pytest.raises(InputError, match="no channel 99999"):
        next(run_batch(RECIPE.replace(channels="99999"), source, "out"))
    assert not Path("out").exists()


def test_an_interrupted_write_leaves_no_file(source, monkeypatch):
    def half(path, content):
        with path.open("wb") as file:
            file.write(content[:9])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        list(run_batch(RECIPE, source, "out"))
    assert files("out") == set()


def test_pictures_that_differ_only_in_their_extension_keep_it(source):
    noise(3).save(source / "a.bmp")
    noise(4).save(source / "a.bmp.gif")  # Without its extension it has the name of another picture.
    assert [outcome.out.name for outcome in run_batch(RECIPE, source, "out")] == [
        "a.bmp.png", "a.bmp.gif.png", "a.png.png", "b.png", "bad.png", "c.png",
    ]  # fmt: skip


def test_names_of_the_greatest_length_are_written_and_longer_ones_reported(source, no_work):
    Path("out.mp4").mkdir()  # An existing folder may have any name.
    longest = "n" * 251  # With ".png", a name has 255 bytes at most.
    for name in (f"{longest}.png", f"a{longest[3:]}.jpeg", f"a{longest[3:]}.png"):  # The last two keep their extensions.
        noise(3).save(source / name)
    outcomes = {outcome.out.stem: outcome for outcome in run_batch(RECIPE, source, "out.mp4")}
    assert outcomes[longest].made
    assert "could not be written: File name too long." in str(outcomes[f"a{longest[3:]}.jpeg"].error)
    assert outcomes["c"].made
    assert files("out.mp4") == {"a.png", "b.png", "c.png", f"{longest}.png"}


@pytest.mark.parametrize("count", [0, 1, 7, 16])
@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_shards_cover_everything_once_and_evenly(count, n):
    shards = [Shard(i, n) for i in range(1, n + 1)]
    parts = [[number for number in range(count) if shard.includes(number)] for shard in shards]
    assert sorted(chain.from_iterable(parts)) == list(range(count))
    assert [len(part) for part in parts] == [shard.count(count) for shard in shards]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_shard_runs_only_its_own_pictures(source, no_work):
    list(run_batch(RECIPE, source, "out", shard=Shard.parse("2/2")))
    assert no_work == ["b.jpg", "c.png"]


def test_all_readable_files_of_a_folder_are_run_and_the_others_are_reported(source, no_work, capsys):
    noise(4).save(source / "d.avif")
    pillow_heif.from_pillow(noise(5)).save(source / "e.HEIC")
    (source / "bad.png").unlink()
    for name in ("one", "two.png"):
        (source / name).mkdir()
    for name in ("a.xmp", "b.xmp", "c.xmp"):
        (source / name).write_text("x")
    assert cli.main(["deepdream", "in", "out", *TYPED]) == cli.SUCCESS
    assert no_work == ["a.png", "b.jpg", "c.png", "d.avif", "e.HEIC"]
    captured = capsys.readouterr().err
    assert (
        "Skipped in 'in': a.xmp, b.xmp, c.xmp and 1 more; PNG, JPEG, WebP, AVIF, HEIC, GIF, BMP and TIFF files are read."
        in captured
    )
    assert "Skipped in 'in': one, two.png; subfolders are not searched." in captured
    assert ".hidden.png" not in captured
    assert batch.count(source) == 5
    assert [batch.is_batch(path) for path in (source, "clip.AVI", "cat.png")] == [True, True, False]


@pytest.mark.parametrize("extension", ["mp4", "gif", "webp", "avif", "png"])
def test_the_frames_of_a_video_and_of_an_animated_picture_are_pictures_too(source, extension, capsys):
    levels = [Image.new("RGB", (64, 48), (level, level, level)) for level in (40, 120, 200)]
    if extension == "mp4":
        with Video("clip.mp4", 10) as video:
            for level in levels:
                video.write(level)
    else:
        levels[0].save(f"clip.{extension}", save_all=True, append_images=levels[1:])
    assert batch.count(f"clip.{extension}") == 3
    outcomes = list(run_batch(RECIPE, f"clip.{extension}", "out", shard=Shard(1, 2), device="cpu"))
    assert [(outcome.out.name, outcome.made) for outcome in outcomes] == [("000001.png", True), ("000003.png", True)]
    assert [np.asarray(Image.open(outcome.out)).mean() for outcome in outcomes] == pytest.approx([40, 200], abs=20)
    if extension != "mp4":
        assert cli.main(["deepdream", f"clip.{extension}", "one.png", *TYPED]) == cli.SUCCESS
        assert "The image has 3 frames; the first one is used." in capsys.readouterr().err


# On the command line


def test_a_batch_continues_after_an_interruption(source, capsys, monkeypatch):
    original_run = cluster.run

    def interrupted(recipe, *, image, **others):
        if image.name == "b.jpg":
            raise KeyboardInterrupt
        return original_run(recipe, image=image, **others)

    monkeypatch.setattr(cluster, "run", interrupted)
    assert cli.main(["deepdream", "in", "out", *TYPED]) == cli.INTERRUPTED
    captured = capsys.readouterr()
    assert captured.out.split() == [str(Path("out/a.png"))]
    assert captured.err.endswith("Stopped; the same command goes on from here: 1 made\n")
    monkeypatch.setattr(cluster, "run", original_run)
    assert cli.main(["deepdream", "in", "out", *TYPED]) == cli.FAILURE
    captured = capsys.readouterr()
    assert captured.out.split() == [str(Path("out/b.png")), str(Path("out/c.png"))]
    assert f"{Path('out/bad.png')}: The image is not a picture" in captured.err
    assert captured.err.endswith("1 there already, 2 made, 1 failed\n")
    (source / "bad.png").unlink()
    assert cli.main(["deepdream", "in", "out", *TYPED, "--shard=1/2"]) == cli.SUCCESS
    assert capsys.readouterr().err.endswith("2 there already\n")


SMALL_STYLE = ["--network=efficientnet_lite0", "--size=64", "--scales=1", "--steps=1", "--device=cpu"]


def test_a_style_is_shared_by_all_contents(source):
    noise(4).save("style.png")
    (source / "bad.png").unlink()
    assert cli.main(["style-transfer", "in", "style.png", "out", *SMALL_STYLE]) == cli.SUCCESS
    assert files("out") == {"a.png", "b.png", "c.png"}
    assert recipe_of("out/a.png") == StyleTransfer(network="efficientnet_lite0", size=64, scales=1, steps=1)


def test_results_of_other_pictures_are_reported_and_kept(source, capsys):
    (source / "bad.png").unlink()
    noise(4).save("one.png")
    noise(5).save("other.png")
    command = ["style-transfer", "in", "one.png", "out", *SMALL_STYLE]
    assert cli.main(command) == cli.SUCCESS
    before = {name: Path("out", name).read_bytes() for name in files("out")}
    capsys.readouterr()

    assert cli.main(["style-transfer", "in", "other.png", "out", *SMALL_STYLE]) == cli.FAILURE
    captured = capsys.readouterr()
    assert captured.out == ""
    wrong = "it was made of another style; remove it, or choose another folder for the results."
    assert [line for line in captured.err.splitlines() if "made of" in line] == [
        f"{Path('out', name)}: {wrong}" for name in sorted(before)
    ]
    assert captured.err.endswith("3 failed\n")

    noise(4).convert("RGBA").save("same.webp", lossless=True)  # The pixels count, not the file.
    assert cli.main(["style-transfer", "in", "same.webp", "out", *SMALL_STYLE]) == cli.SUCCESS

    noise(6).save(source / "c.png")
    assert cli.main(command) == cli.FAILURE
    captured = capsys.readouterr()
    assert f"{Path('out/c.png')}: it was made of another content; remove it" in captured.err
    assert captured.err.endswith("2 there already, 1 failed\n")

    mask = Image.new("L", (60, 40))
    mask.paste(255, (0, 0, 30, 40))
    mask.save("mask.png")
    Path("out/c.png").unlink()
    assert cli.main([*command, "--mask=mask.png"]) == cli.FAILURE
    assert f"{Path('out/a.png')}: it was made of another mask; remove it" in capsys.readouterr().err
    assert {name: Path("out", name).read_bytes() for name in ("a.png", "b.png")} == {n: before[n] for n in ("a.png", "b.png")}


def test_an_old_result_without_fingerprints_counts_as_done(source):
    Path("out").mkdir()
    picture = noise(0)
    picture.info["featviz"] = metadata.note(RECIPE, ["image"], whole=True)
    save(picture, "out/b.png")
    outcomes = {outcome.out.stem: outcome for outcome in run_batch(RECIPE, source, "out", shard=Shard(2, 4))}
    assert (outcomes["b"].made, outcomes["b"].error) == (False, None)


def test_a_recipe_from_a_file_is_run_and_options_override_it(source, monkeypatch):
    seen = []
    monkeypatch.setattr(cli.batch, "run_batch", lambda recipe, *places, **others: seen.append(recipe) or (_ for _ in ()))
    Path("r.json").write_text(json.dumps({"recipe": "deepdream", "fields": {"size": 128, "steps": 3}}))
    save(run(RECIPE, image=noise(0)), "made.jpg")
    assert cli.main(["deepdream", "in", "out", "--recipe", "r.json"]) == 0
    assert cli.main(["deepdream", "in", "out", "--recipe", "r.json", "--steps", "4"]) == 0
    assert cli.main(["deepdream", "in", "out", "--recipe", "made.jpg", "--seed", "7"]) == 0
    assert seen == [DeepDream(size=128, steps=3), DeepDream(size=128, steps=4), RECIPE.replace(seed=7)]
    for encoding in ("utf-8-sig", "utf-16"):  # As Windows' editor and its shell write it.
        Path("r.json").write_text(json.dumps({"recipe": "deepdream", "fields": {"size": 128}}), encoding=encoding)
        assert cli.main(["deepdream", "in", "out", "--recipe", "r.json"]) == 0
        assert seen[-1] == DeepDream(size=128)


def test_every_recipe_that_takes_a_picture_and_makes_one_takes_shards(capsys):
    for name, recipe in RECIPES.items():
        with pytest.raises(SystemExit):
            cli.main([name.replace("_", "-"), "--help"])
        assert ("--shard" in capsys.readouterr().out) == (bool(recipe.images) and recipe.produces == "picture")
