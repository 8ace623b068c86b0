"""A missing optional package is one sentence with the command that installs it."""

import re
import sys

import pytest
from PIL import Image

from featviz import FeatvizError, extras, recipe_of, save, ui
from featviz.errors import InputError, MissingExtraError
from featviz.media import video

SENTENCE = 'Videos need PyAV, which is not installed: pip install "featviz[video]"'


@pytest.fixture
def without_av(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # Python's own way of saying that a module cannot be imported.
    monkeypatch.setattr(video, "av", extras.Lazy("av"))  # The first one may have attributes already.


@pytest.mark.parametrize("module", extras.EXTRAS)
def test_the_command_names_the_extra(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=re.escape(f'pip install "featviz[{extras.EXTRAS[module]}]"')):
        extras.load(module)


def test_a_lazy_module_is_imported_at_its_first_attribute_and_others_are_not_blamed_on_an_extra(monkeypatch):
    with pytest.raises(ModuleNotFoundError) as caught:
        extras.load("featviz.absent")
    assert not isinstance(caught.value, MissingExtraError)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    lazy = extras.Lazy("colorsys")
    assert "colorsys" not in sys.modules
    assert lazy.rgb_to_hls(1, 1, 1) == (0, 1, 0)


@pytest.mark.parametrize(
    "use",
    [lambda path: video.Video(path, 12), lambda path: next(video.frames(path)), video.count_frames, video.read_note],
    ids=["write", "read", "count", "note"],
)
def test_videos_without_pyav(use, without_av, tmp_path):
    with pytest.raises(MissingExtraError) as caught:
        use(tmp_path / "a.mp4")
    assert str(caught.value) == SENTENCE
    assert list(tmp_path.iterdir()) == []


def test_without_pyav_a_wrong_extension_comes_first_and_the_limitation_is_told(without_av):
    with pytest.raises(InputError, match=r"accepted: \.mp4, \.webp, \.gif"):
        video.Video("a.avi", 12)
    assert video.limitation() == SENTENCE


def test_pictures_do_not_need_pyav(without_av, tmp_path):
    save(Image.new("RGB", (32, 32)), tmp_path / "a.png")
    with pytest.raises(FeatvizError, match="There is no recipe in this file"):
        recipe_of(tmp_path / "a.png")


@pytest.mark.parametrize("name", ui.__all__)
def test_the_page_without_gradio(name, monkeypatch):
    def without_gradio(module):
        raise ModuleNotFoundError(f"No module named 'gradio' in {module}", name="gradio")

    monkeypatch.setattr(extras, "import_module", without_gradio)
    with pytest.raises(MissingExtraError) as caught:
        getattr(ui, name)
    assert str(caught.value) == 'The page needs Gradio, which is not installed: pip install "featviz[app]"'


def test_the_page_has_no_other_names():
    with pytest.raises(AttributeError, match="has no attribute 'biuld'"):
        ui.biuld  # noqa: B018
