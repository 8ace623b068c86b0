import errno
import json
import os
import random
import string

import numpy as np
import pytest
from PIL import Image

from featviz.errors import FeatvizError
from featviz.media.images import open_picture
from featviz.media.saving import NOTE, PICTURE_FORMATS, RecipeLeftOut, read_note, save

RGB = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def test_a_write_that_fails_leaves_the_existing_file(tmp_path, monkeypatch):
    path = tmp_path / "made.png"
    save(Image.fromarray(RGB), path)
    before, whole = path.read_bytes(), Image.Image.save

    def half(picture, place, **options):
        whole(picture, place, **options)
        os.truncate(place, 100)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(FeatvizError, match=r"made\.png' could not be written: No space left on device\."):
        save(Image.new("RGB", (32, 32)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_to_a_file_is_written_through(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "folder" / "made.png")
    save(Image.new("RGB", (32, 32), "red"), tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    assert open_picture(tmp_path / "folder" / "made.png").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("extension", PICTURE_FORMATS)
def test_written_files_are_srgb_reproducible_and_have_full_chroma_resolution(extension, tmp_path):
    stripes = np.zeros((24, 40, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (200, 30, 30), (30, 30, 200)
    for name in "ab":
        save(Image.fromarray(stripes), tmp_path / f"{name}{extension}")
    content = (tmp_path / f"a{extension}").read_bytes()
    assert content == (tmp_path / f"b{extension}").read_bytes()
    assert (b"sRGB" in content) or (b"acsp" in content)
    if extension != ".webp":  # Lossy WebP is 4:2:0 by definition.
        assert np.abs(np.asarray(open_picture(tmp_path / f"a{extension}")).astype(int) - stripes).max() < 40


@pytest.mark.parametrize("extension", PICTURE_FORMATS)
def test_a_long_recipe_is_in_the_file_or_a_warning_says_that_it_is_not(extension, tmp_path):
    picture, path = Image.fromarray(RGB), tmp_path / f"a{extension}"
    picture.info[NOTE] = json.dumps({"recipe": "deepdream", "more": "relu1_1: 0.25, " * 6000})
    save(picture, path)
    assert read_note(path) == picture.info[NOTE]
    random_text = "".join(random.Random(0).choices(string.ascii_letters + string.digits, k=120_000))
    picture.info[NOTE] = json.dumps({"recipe": "deepdream", "more": random_text})
    with pytest.warns(RecipeLeftOut, match=f"The recipe is not in '.*a{extension}'"):
        save(picture, path)
    assert read_note(path) == ""
    assert np.abs(np.asarray(open_picture(path)).astype(int) - RGB).mean() < 60


def test_a_compressed_note_that_is_damaged_or_expands_too_far_is_ignored(tmp_path):
    picture, path = Image.fromarray(RGB), tmp_path / "a.jpg"
    picture.info[NOTE] = "{" + " " * 99_000
    save(picture, path)
    whole = path.read_bytes()
    assert read_note(path) == picture.info[NOTE]
    at = whole.index(b"base64:") + 20
    path.write_bytes(whole[:at] + b"????" + whole[at + 4 :])
    assert read_note(path) == ""
