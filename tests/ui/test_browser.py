"""The page in a real browser, as a visitor uses it."""

import base64
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from urllib.parse import urlsplit

import av
import clips
import hostile
import pytest
import screens
from conftest import SERVE
from PIL import Image, ImageChops, ImageOps, ImageStat

import featviz as api
from benchmarks.clips import fake_camera, write_mjpeg
from featviz.recipes import metadata, presets
from featviz.recipes.recipe import bounds
from featviz.recipes.table import RECIPES, TABS
from featviz.ui.navigation import inner_title
from featviz.ui.serving.files import displayable
from scripts.visitor import free_port, serving

try:
    from playwright.sync_api import Browser, Page, expect, sync_playwright
except ModuleNotFoundError:
    sync_playwright = None

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = (
    "playwright is not installed" if sync_playwright is None else "there is no Chromium on the PATH" if CHROMIUM is None else None
)

# On CI they run or fail.
pytestmark = pytest.mark.skipif(MISSING is not None and "CI" not in os.environ, reason=f"browser tests: {MISSING}")

LONG = 90_000
"""Milliseconds: the patience of a test with a busy machine, not a statement about speed."""

DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


CAMERA = presets.FOLDER / "astronaut.jpg"
"""What the camera of the browser sees. Only a page with the permission `camera` may use it."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Browser"]:
    if MISSING:
        pytest.fail(f"browser tests have to run here, but {MISSING}")
    expect.set_options(timeout=LONG)
    camera = write_mjpeg(tmp_path_factory.mktemp("camera") / "still.mjpeg", [seen_by_camera()] * 2)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *fake_camera(camera)])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: "Browser", server: str) -> Iterator[Callable[..., "Visit"]]:
    """Opens the page with a query, or an empty window, with options of the browser. At the end, nothing may have been asked of another server, and
    nothing may have gone wrong in it."""
    visits: list[Visit] = []

    def opened(query: str | None = "", **options) -> "Visit":
        visits.append(Visit(browser, None if query is None else server + query, **options))
        return visits[-1]

    yield opened
    for visit in visits:
        visit.context.close()
        assert visit.hosts == {"127.0.0.1"}
        assert visit.complaints == []


@pytest.fixture
def visit(opened) -> "Visit":
    return opened()


class Visit:
    def __init__(self, browser: "Browser", address: str | None, **options):
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        self.context = browser.new_context(**{"viewport": DESKTOP, "accept_downloads": True, **options})
        self.context.set_default_timeout(LONG)
        self.page = self.open(address) if address else self.window()

    def open(self, address: str) -> "Page":
        """Open another window of the same browser."""
        page = self.window()
        page.goto(address)
        expect(page.locator("#start:visible, .lesson h3:visible").first).to_be_visible()
        expect(page).to_have_url(re.compile("recipe=|lesson="))  # It has arrived, and its controls are set.
        return page

    def window(self) -> "Page":
        """Return an empty window of the same browser."""
        page = self.context.new_page()
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or "127.0.0.1"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        return page

    def reload(self) -> None:
        """Open the page again. Leaving cuts off what a page still asks for, of which it complains."""
        assert self.complaints == []
        self.page.reload()
        expect(self.page.locator("#result .status p").first).to_be_visible()
        self.complaints.clear()

    def tab(self, name: str) -> None:
        recipe = RECIPES[name]
        self.page.get_by_role("tab", name=recipe.tab_group, exact=True).click()
        if [other.tab_group for other in TABS.values()].count(recipe.tab_group) > 1:
            title = inner_title(recipe)
            tab = self.page.get_by_role("tab", name=title, exact=True)
            if not tab.is_visible():  # The last tabs are behind a menu.
                self.page.locator(".overflow-menu > button:visible").last.click()
                tab = self.page.locator(".overflow-dropdown button:visible", has_text=title)
            tab.click()
        expect(self.start).to_have_text(recipe.action)

    @property
    def start(self):
        return self.page.locator("#start")

    @property
    def layer(self):
        return self.page.get_by_label("Layer", exact=True).locator("visible=true").first  # That of the mirror is below.

    @property
    def stop(self):
        return self.page.locator("#stop")

    @property
    def result(self):
        return self.page.locator("#result")

    @property
    def preview(self):
        return self.result.get_by_alt_text("The picture so far.")

    def card(self, title: str):
        return self.page.locator(".card", has_text=title).locator("visible=true").first

    def choose(self, path: Path, box: str = "picture") -> None:
        element = self.page.locator(f"#{box}")
        element.locator("input[type=file]").set_input_files(path)
        expect(element.get_by_label("Remove Image").or_(element.get_by_label("Clear"))).to_be_visible()

    def more(self) -> None:
        self.button("More settings").click()

    def field(self, label: str):
        return self.page.get_by_label(f"number input for {label}", exact=True).locator("visible=true")

    def type(self, label: str, number: str) -> None:
        """Type a number. Gradio 6.31 sets the value of a field a moment after it shows it, and would replace what is typed before."""
        expect(self.field(label)).to_be_visible()
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.field(label).fill(number)

    def button(self, name: str):
        return self.page.get_by_role("button", name=name).locator("visible=true")

    def says(self, text: str | re.Pattern) -> None:
        expect(self.result.locator(".block.status")).to_contain_text(text)

    def close_toasts(self) -> None:
        self.page.evaluate("document.querySelectorAll('[data-testid=toast-close]').forEach(button => button.click())")
        expect(self.page.get_by_test_id("toast-body")).to_have_count(0)

    def quick(self, folder: Path) -> Path:
        """The cat, about to be dreamt in a second or two."""
        self.choose(folder / "cat.jpg")
        self.more()
        self.type("Steps", "1")
        self.type("Size", "96")
        return folder / "cat.jpg"

    def begin_long(self, size: int) -> None:
        """Start a run of many steps, and wait for its first preview."""
        self.more()
        self.type("Steps", "100")
        self.type("Size", str(size))
        self.start.click()
        expect(self.preview).to_be_visible()

    def saved(self, folder: Path, name: str) -> Path:
        with self.page.expect_download() as download:
            self.page.locator("#download").click()
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        assert path.name == name
        return path

    def downloaded(self, folder: Path) -> Image.Image:
        with Image.open(self.saved(folder, "featviz_deepdream.png")) as picture:
            picture.load()
        return picture


def first_example(name: str, folder: Path) -> presets.Example:
    return next(example for example in presets.read_examples(folder) if example.recipe.name == name)


def seen_by_camera() -> Image.Image:
    with Image.open(CAMERA) as picture:
        return picture.convert("RGB").crop((0, 0, 512, 384)).resize((320, 240))


def swipe(page, start: tuple[float, float], distance: float) -> None:
    """Move a finger up or down by a distance in pixels."""
    (x, y), devtools = start, page.context.new_cdp_session(page)
    for kind, share in (("touchStart", 0), *(("touchMove", step / 10) for step in range(1, 11)), ("touchEnd", None)):
        points = [] if share is None else [{"x": x, "y": y + share * distance}]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def in_sight(locator) -> bool:
    """Whether the whole element is in the window."""
    box, size = locator.bounding_box(), locator.page.viewport_size
    return box is not None and box["y"] >= 0 and box["y"] + box["height"] <= size["height"]


# The first screen


def test_the_first_screen_has_everything_to_start_and_a_result(visit):
    for part in (visit.page.locator("#picture"), visit.card("Eyes"), visit.layer, visit.field("Strength"),
                 visit.start, visit.result.get_by_test_id("imageslider-image").first):  # fmt: skip
        expect(part).to_be_visible()
        assert in_sight(part)
    visit.says("Made earlier by this program")
    assert visit.page.evaluate("document.querySelectorAll('img:not([alt])').length") == 0
    visit.page.set_viewport_size(PHONE)
    for part in (visit.page.locator("#picture"), visit.card("Edges"), visit.start):
        assert in_sight(part)
    for name in TABS:
        visit.tab(name)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


ACCESSIBILITY = Path(__file__).with_name("accessibility.js").read_text(encoding="utf-8")


def test_every_control_has_a_name_and_every_word_enough_contrast_in_both_themes(opened):
    """WCAG 2.2, 4.1.2 and 1.4.3 (AA)."""
    page = (visit := opened("?__theme=dark")).page

    def check() -> None:
        assert page.evaluate(f"({ACCESSIBILITY}).nameless()") == []
        assert page.evaluate(f"({ACCESSIBILITY}).pale()") == []

    for theme in ("dark", "light"):
        assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
        for name in TABS:
            visit.tab(name)
            check()
        page.get_by_role("tab", name="Learn", exact=True).click()
        for name, shown in (("Lesson", ".lesson figure"), ("Game", ".game .choice img")):
            page.get_by_role("tab", name=name, exact=True).click()
            expect(page.locator(shown).first).to_be_visible()
            check()
        page.add_style_tag(content="* { transition: none !important }")  # Else colours are between two themes for a moment.
        page.evaluate("document.body.classList.remove('dark')")


def test_by_keyboard_alone(visit):
    """Skip link → Start; Enter on a preset marks it; a run moves the focus to Stop, and its end moves it back to Start."""
    press = visit.page.keyboard.press
    visit.page.locator("body").focus()
    press("Tab")
    expect(visit.page.locator(".skip")).to_be_focused()
    press("Enter")
    expect(visit.start).to_be_focused()
    visit.card("Edges").focus()
    press("Enter")
    expect(visit.card("Edges")).to_have_attribute("aria-pressed", "true")
    expect(visit.card("Edges")).to_be_focused()
    visit.page.get_by_label("Standard").locator("visible=true").focus()
    press("ArrowRight")
    expect(visit.page.get_by_label("Fine").locator("visible=true")).to_be_checked()
    expect(visit.page.get_by_label("Fine").locator("visible=true")).to_be_focused()
    for control in (visit.page.get_by_label("Layer", exact=True), visit.page.get_by_label("range slider for Strength")):
        control.locator("visible=true").focus()
        assert control.locator("visible=true").evaluate(f"control => ({ACCESSIBILITY}).ring(control)")
    visit.card("Cat in patterns").focus()
    visit.page.evaluate(
        "document.addEventListener('focusin', event => (window.focused ??= []).push(event.target.textContent.trim()))"
    )
    press("Enter")
    visit.says("Done in")
    expect(visit.start).to_be_focused()
    assert "Stop" in visit.page.evaluate("focused")


def test_the_page_speaks_the_language_of_the_browser(opened):
    visit = opened(locale="de-AT")
    visit.says("Früher von diesem Programm berechnet")
    expect(visit.page.get_by_text("Eine Vorlage wählen:")).to_be_visible()
    expect(visit.page.locator("#picture")).to_contain_text("Ihr Bild")
    expect(visit.page.get_by_text("Mittlere Änderung eines Pixels je Schritt, von 255. Von 0.1 bis 10.")).to_be_visible()
    for action in ("Träumen", "Schichten vergleichen"):
        expect(visit.button(action)).to_be_visible()
    expect(visit.card("Schloss aus Augen und Gesichtern")).to_be_visible()
    expect(visit.card("Leuchtende Konturen")).to_be_visible()
    expect(visit.page.locator(".finish:visible")).to_contain_text("Entwurf")
    visit.button("So funktioniert es").click()
    expect(visit.page.get_by_text("DeepDream verstärkt das:").locator("visible=true")).to_be_visible()
    visit.page.get_by_role("tab", name="Stilübertragung", exact=True).click()
    expect(visit.start).to_have_text("Stil übertragen")
    visit.page.get_by_role("tab", name="DeepDream", exact=True).first.click()
    visit.button("Weitere Einstellungen").click()
    visit.page.get_by_role("textbox", name=re.compile("^Name der Klasse ")).locator("visible=true").fill("pizza")
    expect(visit.page.locator("#deepdream_guide")).to_contain_text("Vorbild. Ohne Wirkung neben Name der Klasse: verstärkt wird")
    box = visit.field("Stärke")
    box.press("Control+a")
    box.press("Delete")
    box.press("Tab")
    expect(visit.page.locator(".refused")).to_contain_text("wird nicht angenommen; erwartet wird eine Zahl von 0.1 bis 10")


# How it looks


@pytest.mark.whole  # Fonts and drawing differ between machines.
def test_the_main_states_look_as_when_they_were_last_approved(opened, quick_examples):
    """And three changes that are seen are noticed."""
    visit = opened(reduced_motion="reduce", color_scheme="light")
    phone = opened(reduced_motion="reduce", color_scheme="dark", viewport=PHONE)
    page = visit.page
    visit.says("Made earlier by this program")
    phone.says("Made earlier by this program")
    found = {"first_screen": screens.changed("first_screen", page), "phone_dark": screens.changed("phone_dark", phone.page)}
    first = screens.taken(page)
    for change in ("#start { visibility: hidden }", "#start { background: green !important }", ".card { opacity: 0.7 }"):
        style = page.add_style_tag(content=change)
        assert screens.difference(screens.taken(page), first) > screens.TOLERANCE, change
        style.evaluate("style => style.remove()")
    visit.quick(quick_examples)
    visit.start.click()
    visit.says("Done in")
    found["after_a_run"] = screens.changed("after_a_run", page)
    page.get_by_role("tab", name="Look Inside", exact=True).click()
    visit.card("Astronaut").click()
    expect(page.locator(".explorer .caption")).to_contain_text("block6, row")
    expect(page.locator(".explorer .here .channel")).to_have_count(8)
    found["explore"] = screens.changed("explore", page)
    assert {name: value for name, value in found.items() if value > screens.TOLERANCE} == {}


# A run


def test_an_example_runs_on_one_click_and_everything_is_there_after_a_reload(visit, quick_examples, tmp_path):
    example = first_example("deepdream", quick_examples)
    Image.new("RGB", (64, 48), (200, 100, 50)).save(tmp_path / "own.png")
    visit.choose(tmp_path / "own.png")
    visit.card(example.title).click()
    visit.says("Done in")
    visit.page.locator(".origin").get_by_text("Undo").click()
    expect(visit.page.locator("#picture img")).to_have_attribute("src", re.compile("own.png"))
    picture = visit.downloaded(tmp_path)
    assert (picture.format, max(picture.size)) == ("PNG", example.recipe.size)
    assert api.recipe_of(picture) == example.recipe
    expect(visit.page.locator("#history .card")).to_have_count(1)
    expect(visit.page).to_have_url(re.compile(r"\?recipe=deepdream&size=192"))
    visit.page.evaluate("featviz.keeping")

    visit.reload()
    visit.says("Done in")
    expect(visit.page.locator("#picture img")).to_be_visible()
    expect(visit.page.locator("#history .card")).to_have_count(1)
    visit.more()
    expect(visit.field("Size")).to_have_value("192")
    assert visit.downloaded(tmp_path).tobytes() == picture.tobytes()
    visit.button("Use as picture").click()
    expect(visit.page.locator("#picture img")).to_have_attribute("src", re.compile("featviz_deepdream"))

    visit.button("Forget all").click()
    expect(visit.page.locator("#history")).to_be_hidden()
    visit.reload()
    expect(visit.page.locator("#history")).to_be_hidden()


def test_a_run_goes_on_over_a_reload_a_lost_connection_and_in_a_second_window(visit, quick_examples, server):
    visit.choose(quick_examples / "cat.jpg")
    visit.begin_long(512)
    assert in_sight(visit.stop)
    visit.reload()
    visit.says(re.compile(r"step \d+ of \d+ · about \d+ s left"))
    expect(visit.preview).to_be_visible()

    before = int(re.search(r"step (\d+)", visit.result.locator(".status p").inner_text())[1])
    visit.context.set_offline(True)
    visit.page.wait_for_timeout(3000)
    visit.context.set_offline(False)
    visit.page.wait_for_function(
        "before => +document.querySelector('#result .status p')?.textContent.match(/step (\\d+)/)?.[1] > before", arg=before
    )
    expect(visit.page.locator("#picture img")).to_be_visible()
    other = visit.open(server)
    expect(other.locator("#result .block.status")).to_contain_text(re.compile(r"step \d+ of"))
    other.locator("#stop").click()
    visit.says("Stopped at step")
    expect(other.locator("#result .block.status")).to_contain_text("Stopped at step")
    expect(visit.start).to_be_visible()
    visit.complaints.clear()  # What was asked for while there was no connection has failed.


def test_after_a_restart_of_the_server_one_click_starts_the_same_run_again(browser, quick_examples):
    program, port = ("-c", SERVE, str(quick_examples)), free_port()
    with serving(program, port=port, kill=True) as server:
        visit = Visit(browser, server.address)
        visit.choose(quick_examples / "cat.jpg")
        visit.begin_long(256)
    with serving(program, port=port, kill=True):
        visit.says("The server was restarted, and this run was lost. Press 'Start dreaming' to run it again.")
        expect(visit.page.locator("#picture img")).to_be_visible()
        visit.start.click()
        visit.says(re.compile(r"step \d+ of \d+"))
        visit.stop.click()
        visit.says("Stopped at step")
        visit.context.close()


@pytest.mark.parametrize("slower", [1, pytest.param(4, marks=pytest.mark.whole)])
def test_on_a_phone_the_first_click_counts_the_result_comes_into_view_and_stop_is_within_reach(opened, server, slower):
    """The page is built by scripts; until they come, there is the first screen alone. And with a quarter of the processor."""
    page = (visit := opened(None, viewport=PHONE)).page
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
    scripts, held = "**/assets/*.js", []
    page.route(scripts, lambda route: held.append(route))  # Playwright takes no method of a list.
    page.goto(server, wait_until="commit")
    screen = page.locator("#first-screen")
    screen.locator(".card").first.click()
    expect(screen.get_by_role("status")).to_have_text("It starts as soon as the page is complete.")
    expect(visit.start).to_have_count(0)
    page.route(scripts, lambda route: route.continue_())
    for route in held:
        route.continue_()
    visit.says("Done in")
    expect(screen).to_have_count(0)
    expect(visit.result.get_by_test_id("imageslider-image").first).to_be_in_viewport()
    visit.begin_long(256)
    expect(visit.preview).to_be_in_viewport()
    assert in_sight(visit.stop)
    visit.stop.click()
    visit.says("Stopped at step")


def test_a_video_becomes_a_video_with_sound_and_a_zoom_plays_when_it_is_done_or_stopped(visit, quick_examples, tmp_path):
    visit.quick(quick_examples)
    visit.page.locator("#clip input[type=file]").set_input_files(clips.clip(tmp_path / "clip.mp4"))
    expect(visit.page.locator("#picture")).to_be_hidden()
    visit.start.click()
    visit.says("Done in")
    expect(visit.result.locator("video")).to_be_visible()
    made = visit.saved(tmp_path, "featviz_deepdream.mp4")
    assert clips.times(made) == clips.TIMES
    assert clips.packets(made)
    assert api.recipe_of(made) == RECIPES["deepdream"](size=96, steps=1)
    visit.page.locator("#clip").get_by_label("Clear").click()
    expect(visit.page.locator("#picture")).to_be_visible()
    visit.tab("classification")
    expect(visit.page.locator("#clip")).to_be_hidden()

    visit.tab("deepdream_zoom")
    visit.card(first_example("deepdream_zoom", quick_examples).title).click()
    visit.says("Done in")
    player = visit.result.locator("video")
    expect(player).to_have_attribute("src", re.compile("featviz_deepdream_zoom"))  # No longer the video before.
    player.evaluate("video => video.readyState >= 2 || new Promise(ready => video.addEventListener('loadeddata', ready))")
    assert player.evaluate("video => [video.videoWidth, video.duration]") == pytest.approx([96, 1], abs=0.01)
    assert frames(visit.saved(tmp_path, "featviz_deepdream_zoom.mp4")) == 12
    visit.more()
    visit.type("Seconds", "60")
    visit.start.click()
    visit.says(re.compile(r"Frame ([3-9]|\d\d+) of 720"))
    visit.stop.click()
    visit.says("Stopped at step")
    expect(player).to_be_visible()
    assert 2 <= frames(visit.saved(tmp_path, "featviz_deepdream_zoom.mp4")) < 720


def frames(path: Path) -> int:
    with av.open(path) as file:
        return len(list(file.decode(video=0)))


def test_a_stopped_sweep_keeps_what_it_has_and_strengths_can_be_changed_while_a_run_works(visit, quick_examples):
    visit.choose(quick_examples / "cat.jpg")
    visit.button(RECIPES["deepdream"].sweep_action).click()
    tile = visit.result.locator(".grid-wrap:visible button", has_text=re.compile("relu1_1"))
    expect(tile).to_be_visible()
    visit.stop.click()
    visit.says("Stopped")
    tile.click()
    expect(visit.layer).to_have_value("VGG-19 · relu1_1")

    visit.tab("style_transfer")
    visit.choose(quick_examples / "great_wave.jpg", "style_transfer_style")
    visit.more()
    visit.type("Size", "96")
    visit.type("Steps", "1000")
    visit.start.click()
    bars = visit.result.locator(".block.measures")
    expect(bars).to_contain_text("relu1_1")
    visit.type("Style strength", "0")
    expect(bars).not_to_contain_text("relu1_1")  # A style that is not wanted is not looked at.
    expect(bars).to_contain_text("content")
    visit.stop.click()
    visit.says("Stopped")


def test_what_is_not_painted_stays_as_it_is(visit, quick_examples, tmp_path):
    path = visit.quick(quick_examples)
    visit.button("Paint where to dream").click()
    editor = visit.page.locator("#painting")
    expect(editor.locator("canvas").first).to_be_visible()
    editor.scroll_into_view_if_needed()
    visit.page.wait_for_timeout(1500)  # The canvas has no sign by which it says that it is ready for the brush.
    box = editor.locator("canvas").first.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visit.page.mouse.move(*middle)
    visit.page.mouse.down()
    visit.page.mouse.move(middle[0] + 20, middle[1], steps=5)
    visit.page.mouse.up()
    visit.start.click()
    visit.says("Done in")
    result = visit.downloaded(tmp_path)
    everywhere = api.run(RECIPES["deepdream"](size=96, steps=1), image=path)
    corner = Image.new("L", result.size)
    corner.paste(255, (0, 0, 2, 2))
    picture = api.run(RECIPES["deepdream"](size=96, steps=1), image=path, mask=corner)
    there = (result.width // 2, result.height // 2)
    assert result.getpixel(there) != picture.getpixel(there)
    for here in [(result.width - 2, 2), (2, result.height - 2), (result.width - 2, result.height - 2)]:
        assert result.getpixel(here) == picture.getpixel(here) != everywhere.getpixel(here)


# Settings


def test_settings_are_marked_refused_disabled_and_in_the_address(visit, quick_examples):
    preset = next(one for one in presets.read_presets(quick_examples) if one.recipe.steps != RECIPES["deepdream"]().steps)
    visit.more()
    expect(visit.page.get_by_label("range slider for Size").locator("visible=true")).to_have_attribute("max", "1536")
    visit.card(preset.title).click()
    expect(visit.field("Steps")).to_have_value(str(preset.recipe.steps))
    expect(visit.card(preset.title)).to_have_attribute("aria-pressed", "true")
    visit.page.get_by_label("Draft").locator("visible=true").check()
    expect(visit.field("Size")).to_have_value("256")
    visit.page.locator(".layers .card:visible").nth(1).click()
    expect(visit.layer).to_have_value("EfficientNet-Lite0 · block2")
    visit.layer.click()
    expect(visit.page.get_by_role("option", selected=True).locator("visible=true")).to_be_in_viewport()
    assert visit.page.get_by_role("option").count() > 50
    visit.page.keyboard.press("Escape")
    visit.type("Size", "2000")
    visit.field("Size").press("Tab")
    expect(visit.page).to_have_url(re.compile("size=2000"))  # Beyond the slider.
    expect(visit.field("Size")).to_have_value("2000")
    for name, typed, kept, word in (
        ("Size", "5000", "2000", "5000 is not accepted; expected a number from 64 to 4096. The value stays 2000."),
        ("Size", "", "2000", "– is not accepted; expected a number from 64 to 4096. The value stays 2000."),
        ("Strength", "1e9", "2", "1e9 is not accepted; expected a number from 0.1 to 10. The value stays 2."),
    ):
        box = visit.field(name)
        kept = box.input_value() if name == "Strength" else kept
        box.press("Control+a")
        box.press_sequentially(typed) if typed else box.press("Delete")
        box.press("Tab")
        expect(box).to_have_value(kept)
        sentence = visit.page.locator(".block", has=box).locator(".refused").last
        expect(sentence).to_have_text(re.compile(re.escape(word.rpartition(" The")[0])))
    channels, class_name = (
        visit.page.get_by_role("textbox", name=re.compile(f"^{name} ")).locator("visible=true")
        for name in ("Channels", "Class name")
    )
    class_name.fill("pizza")
    expect(channels).to_be_disabled()
    expect(visit.page.locator("#deepdream_guide")).to_contain_text("No effect beside class name")
    expect(visit.page).to_have_url(re.compile("class_name=pizza"))
    class_name.fill("")
    expect(channels).to_be_enabled()
    visit.reload()
    visit.more()
    expect(visit.field("Size")).to_have_value("2000")
    expect(visit.layer).to_have_value("EfficientNet-Lite0 · block2")


@pytest.mark.parametrize("name", [*(pytest.param(name, marks=pytest.mark.whole) for name in list(TABS)[:-1]), list(TABS)[-1]])
def test_the_address_of_a_tab_opens_it_with_its_settings(opened, name):
    value = int(bounds(RECIPES[name].model_fields["size"])[1])
    visit = opened(f"?recipe={name}&size={value}")
    expect(visit.start).to_have_text(RECIPES[name].action)
    if not visit.field("Size").count():
        visit.more()
    expect(visit.field("Size")).to_have_value(str(value))
    expect(visit.page).to_have_url(re.compile(rf"\?recipe={name}&size={value}$"))


def test_a_result_is_estimated_shared_and_restores_its_settings_when_it_is_dropped(visit, quick_examples, tmp_path):
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.choose(quick_examples / "cat.jpg")
    line = visit.page.locator("#estimate")
    expect(line).to_contain_text(re.compile(r"About \d+ \w+ and \d+\.\d GB"))
    expect(visit.page.locator(".finish:visible")).to_contain_text(re.compile(r"Draft · \d+ s"))
    visit.more()
    visit.type("Steps", "100")
    visit.type("Size", "4096")
    expect(line).to_contain_text("would fit")
    visit.button("Use size").click()
    expect(line).not_to_contain_text("would fit")
    assert 64 <= int(visit.field("Size").input_value()) < 4096

    visit.type("Steps", "1")
    visit.type("Size", "96")
    visit.type("Strength", "4")
    visit.start.click()
    visit.says("Done in")
    visit.button("Share").first.click()
    visit.button("Copy link").click()
    expect(visit.page.get_by_text("Copied.")).to_be_visible()
    assert visit.page.evaluate("navigator.clipboard.readText()").endswith("?recipe=deepdream&strength=4.0&steps=1&size=96")
    visit.page.evaluate(
        "() => { navigator.canShare = () => true; navigator.share = async ({files}) => { window.shared = files[0]; }; }"
    )
    visit.button("Share picture").click()
    visit.page.wait_for_function("window.shared?.size > 1000")
    assert visit.page.evaluate("window.shared.type") == "image/png"
    visit.button("Animation").click()
    animation = visit.result.get_by_alt_text("The picture and the result in turn.")
    expect(animation).to_be_visible()
    size = animation.evaluate("img => fetch(img.src).then(answer => answer.blob()).then(blob => blob.size)")
    assert 1000 < size < 2_000_000

    result = visit.saved(tmp_path, "featviz_deepdream.png")
    assert api.recipe_of(result) == RECIPES["deepdream"](size=96, steps=1, strength=4)
    visit.page.locator("#picture").get_by_label("Remove Image").click()
    visit.type("Strength", "3")
    visit.choose(result)
    expect(visit.page.get_by_text("its settings are restored")).to_be_visible()
    expect(visit.field("Strength")).to_have_value("4")
    visit.page.locator(".origin").get_by_text("Undo").click()
    expect(visit.field("Strength")).to_have_value("3")
    visit.tab("style_transfer")
    visit.page.locator("#picture").get_by_label("Remove Image").click()
    visit.choose(result)
    visit.button("Open there").click()
    expect(visit.start).to_have_text("Start dreaming")
    expect(visit.field("Strength")).to_have_value("4")


# Look inside


def test_a_picture_is_explored_by_pointer_touch_and_keyboard(opened):
    """The pointer asks the server nothing; a name is explained; a channel and a painted region change the names."""
    page, asked = (visit := opened(has_touch=True)).page, []
    page.on("request", lambda request: asked.append(request.url) if "component_server" in request.url else None)
    page.get_by_role("tab", name="Look Inside", exact=True).click()
    visit.card("Astronaut").click()
    explorer = page.locator(".explorer")
    stage, caption = explorer.locator(".stage"), explorer.locator(".caption")
    expect(caption).to_contain_text("block6, row")
    expect(visit.start).to_be_hidden()
    expect(explorer.locator(".here .channel")).to_have_count(8)
    expect(explorer.locator(".here .thumb")).to_have_count(16)  # An optimised picture and a natural patch of each.
    requests, box = len(asked), stage.bounding_box()
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    expect(caption).to_contain_text("row 1, column 1:")
    page.touchscreen.tap(box["x"] + box["width"] - 3, box["y"] + 3)
    expect(caption).to_contain_text("row 1, column 14:")
    stage.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    expect(caption).to_contain_text("row 2, column 13:")
    assert len(asked) == requests
    explorer.locator(".see").first.click()
    expect(explorer.locator(".accent figure").first.locator("img")).to_have_js_property("naturalWidth", 224)
    expect(explorer.locator(".accent img")).to_have_count(6)  # What it sees, where, and four parts.
    page.set_viewport_size(PHONE)
    for painting in (False, True):
        page.evaluate("window.scrollTo(0, 0)")
        stage.scroll_into_view_if_needed()
        box, before = stage.bounding_box(), page.evaluate("window.scrollY")
        swipe(page, (box["x"] + 60, box["y"] + 120), -100)
        if painting:
            expect(explorer.get_by_role("button", name="Everything on again")).to_be_visible()
            assert page.evaluate("window.scrollY") == before
        else:
            page.wait_for_function("before => window.scrollY > before + 40", arg=before)
        explorer.get_by_role("button", name="Paint a part away").click()
    explorer.get_by_role("button", name="Everything on again").click()
    page.set_viewport_size(DESKTOP)
    name = explorer.locator(".name").first
    name.press("Enter")
    expect(explorer.locator(".sum")).to_contain_text("together")
    expect(name).to_be_focused()
    other = explorer.get_by_label("Compare with")
    total = explorer.locator(".sum").text_content()
    other.select_option(index=1)
    expect(explorer.locator(".sum")).not_to_have_text(total)
    expect(explorer.locator(".why h3")).to_contain_text(f"rather than –{other.locator('option').nth(1).text_content()}")
    other.select_option("")
    expect(other).to_have_value("")
    channel = explorer.locator(".why .channel").first
    before = name.get_attribute("style")
    channel.click()
    expect(channel).to_have_attribute("aria-pressed", "true")
    expect(name).not_to_have_attribute("style", before)
    explorer.get_by_role("button", name="Everything on again").click()
    expect(name).to_have_attribute("style", before)
    explorer.get_by_role("button", name="Paint a part away").click()
    page.keyboard.press("Enter")
    expect(name).not_to_have_attribute("style", before)
    layer = explorer.get_by_role("button", name="block12", exact=False)
    layer.press("Enter")
    expect(caption).to_contain_text("block12, row")
    expect(layer).to_be_focused()
    visit.tab("classification")
    expect(explorer).to_be_hidden()


def test_a_channel_is_found_by_a_link_by_a_search_and_in_a_picture_and_leads_to_its_dream(opened, quick_examples):
    """Each stands beside a natural patch; a click chooses it, and the address names it."""
    page = (visit := opened("?recipe=feature_visualization&layer=vgg19%2Frelu1_1&channel=5")).page
    atlas, title = page.locator(".atlas"), page.locator("#channel h3")
    expect(title).to_have_text("VGG-19 · relu1_1, channel 5")
    expect(page.locator("#channel .grid-wrap img:visible")).to_have_count(4)
    visit.more()
    visit.type("Steps", "1")
    expect(atlas.get_by_role("button")).to_have_count(64)
    atlas.get_by_role("searchbox").fill("tabby")
    page.keyboard.press("Enter")
    found = atlas.get_by_role("button").first
    expect(found).to_contain_text("tabby")
    expect(found.locator(".thumb").last).to_have_css("background-image", re.compile("pictures/"))
    found.focus()
    page.keyboard.press("Enter")
    expect(title).to_contain_text("head, channel")
    expect(page.locator("#channel p").last).to_contain_text("this channel counts most for")
    expect(page).to_have_url(re.compile(r"layer=efficientnet_lite0/head&channel=\d+"))

    visit.tab("activation_maps")
    visit.card(first_example("activation_maps", quick_examples).title).click()
    visit.says(re.compile(r"40 channels of \d+×\d+ · each unit sees 67×67 pixels"))
    visit.result.locator(".grid-wrap button:visible").nth(1).click()
    expect(title).to_contain_text("block4, channel")
    channel = title.inner_text().rpartition(" ")[2]
    expect(title).to_be_focused()
    expect(title).to_be_in_viewport()
    expect(visit.result.get_by_alt_text("Its activation map.")).to_be_visible()
    expect(visit.result.get_by_alt_text("The picture that activates it most.")).to_be_visible()
    visit.button("See what it looks for").last.click()
    expect(visit.page.get_by_role("tab", name="Feature Visualization", selected=True)).to_be_visible()
    expect(visit.field("Channel")).to_have_value(channel)
    visit.says("Done in 1 step")  # It runs by itself.
    visit.button("Show what every channel").click()
    expect(visit.result.locator(".atlas button")).to_have_count(40)


def test_the_lesson_goes_from_a_pixel_to_style_transfer_on_a_phone(opened, quick_examples):
    """A link opens a step. Pointing asks the server nothing, and the control of every step changes its picture."""
    page, asked = (visit := opened("?lesson=6", viewport=PHONE)).page, []
    page.on("request", lambda request: asked.append(request.url) if "component_server" in request.url else None)
    lesson, steps = page.locator(".lesson:not(.game)"), page.locator(".lesson nav button")
    title, figures, slider = lesson.locator("h3"), lesson.locator("figure > img"), lesson.locator("input[type=range]")
    stage, result = lesson.locator(".stage").first, lesson.locator(".result")
    expect(title).to_have_text("6 · Style as correlations")
    expect(result).to_contain_text("Channels")
    requests = len(asked)
    stage.hover(position={"x": 3, "y": 3})
    expect(result).to_contain_text(": 1.00.")
    stage.press("ArrowRight")
    expect(result).not_to_contain_text(": 1.00.")
    assert len(asked) == requests
    expect(page).to_have_url(re.compile("lesson=6$"))

    visit.choose(quick_examples / "astronaut.jpg")
    for step, title_text in enumerate(["pixel", "edges", "gradient", "dream", "Content", "Style", "wave"]):
        steps.nth(step).click()
        expect(title).to_contain_text(f"{step + 1} · ")
        expect(title).to_contain_text(title_text)
        expect(lesson).not_to_have_attribute("aria-busy", "true")
        expect(page).to_have_url(re.compile(f"lesson={step + 1}$"))
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        if title_text != "Style":
            if title_text in ("dream", "wave"):  # Its frames have played.
                expect(slider).to_have_value(slider.get_attribute("max"))
            moving = figures.nth(0 if title_text in ("pixel", "edges", "dream", "wave") else 1)
            before = moving.get_attribute("src")
            slider.press("ArrowLeft" if step else "End")
            expect(moving).not_to_have_attribute("src", before)
            expect(lesson).not_to_have_attribute("aria-busy", "true")
    expect(lesson.get_by_role("button", name="Next")).to_be_hidden()
    visit.tab("deepdream")
    expect(lesson).to_be_hidden()
    expect(page).to_have_url(re.compile("recipe=deepdream"))


def test_a_game_of_ten_rounds_ends_with_the_score_against_chance_and_others(visit):
    """It stays as it is while another tab is open."""
    page, game, kinds = visit.page, visit.page.locator(".game"), []
    page.get_by_role("tab", name="Learn", exact=True).click()
    page.get_by_role("tab", name="Game", exact=True).click()
    score = 0
    for number in range(1, 11):
        expect(game.locator(".note").first).to_contain_text(f"Round {number} of 10 · {score} right")
        kinds.append(game.locator(".kind").inner_text().startswith("Made for this channel"))
        if number == 2:
            page.get_by_role("tab", name="Lesson", exact=True).click()
            expect(game).to_be_hidden()
            page.get_by_role("tab", name="Game", exact=True).click()
            expect(game.locator(".note").first).to_contain_text(f"Round {number} of 10 · {score} right")
        game.locator(".choice").first.click()
        expect(game.locator(".choice span")).to_have_count(2)
        left, right = (float(text.rstrip(" %")) for text in game.locator(".choice span").all_inner_texts())
        correct = game.locator(".result").inner_text().startswith("Right")
        assert left >= right if correct else left <= right
        score += correct
        if number < 10:
            game.get_by_role("button", name="Next round").click()
    expect(game.locator(".result")).to_contain_text(f"{score} of 10 right. Guessing gets 5 on average, and {score} or more in ")
    assert kinds in ([True, False] * 5, [False, True] * 5)
    counted = re.compile(r"All visitors .* right when they saw a part of another picture \(5 answers\)")
    expect(game.locator(".result")).to_have_text(counted)
    game.get_by_role("button", name="Play again").click()
    expect(game.locator(".note").first).to_contain_text("Round 1 of 10 · 0 right")


# Faults


def test_what_is_not_a_picture_gets_one_sentence_and_a_picture_chosen_meanwhile_stays(visit, quick_examples, tmp_path):
    first, second, held = tmp_path / "first.png", tmp_path / "second.png", []
    for path in (first, second):
        path.write_text("This is not a picture.")

    def ask_later(route) -> None:
        held.append(route) if first.name in route.request.post_data else route.continue_()

    box, toast = visit.page.locator("#picture"), visit.page.get_by_test_id("toast-body")
    visit.page.route("**/queue/join*", ask_later)
    visit.choose(first)
    box.get_by_label("Remove Image").click()
    visit.quick(quick_examples)
    for route in held:
        route.continue_()
    expect(toast).to_contain_text("The file is not a picture; PNG, JPEG")
    visit.start.click()
    visit.says("Done in")
    expect(box.locator("img")).to_have_attribute("src", re.compile("cat.jpg"))

    visit.close_toasts()
    box.get_by_label("Remove Image").click()
    box.locator("input[type=file]").set_input_files(second)
    expect(toast).to_contain_text("The file is not a picture")
    expect(box.locator("img")).to_have_count(0)
    visit.complaints.clear()  # The browser could not show it.


@pytest.mark.trust
@hostile.in_parts
def test_every_odd_picture_that_is_chosen_is_a_picture_or_a_sentence(visit, tmp_path, monkeypatch, record_property, part):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    visit.more()
    visit.type("Size", "64")
    visit.type("Steps", "1")
    files = hostile.sent(part)
    box, line, error = (
        visit.page.locator(of) for of in ("#picture", "#result .status p", ".toast-body.error [data-testid=toast-text]")
    )
    for i, one in enumerate(files):
        path = one.write(tmp_path, f"{i}")  # The same file, chosen again, is no change.
        wanted, _ = hostile.outcome(path)
        remove = box.get_by_label("Remove Image")
        refusal = visit.page.get_by_text(f"Invalid file type: {path.name}. Only image/* allowed.")
        visit.close_toasts()
        box.locator("input[type=file]").set_input_files(path)
        remove.or_(refusal).or_(error).first.wait_for()
        if refusal.count():
            continue
        if None in next(displayable({"path": str(path)})).values():  # It leaves the box. The run finds other faults.
            assert wanted != hostile.PICTURE
            assert hostile.is_a_sentence(error.text_content().strip()), one.name
            expect(remove).to_have_count(0)
            continue
        line.evaluate("line => { line.textContent = 'Waiting'; }")  # The next sentence may be the same as the one before.
        visit.start.dispatch_event("click")
        ended = line.filter(has_not_text=re.compile("Waiting|Getting ready| left$"))
        ended.or_(error).first.wait_for(state="attached")
        said = (error if error.count() else ended).first.text_content().strip()
        if wanted == hostile.PICTURE and path.suffix != ".html":
            assert re.fullmatch(r"Done in (1 step|\d steps) · \d+×\d+ pixels", said), (one.name, said)
        else:
            assert hostile.is_a_sentence(said), (one.name, said)
        expect(visit.start).to_be_visible()
        remove.dispatch_event("click")
    record_property("pictures chosen on the page", len(files))
    visit.complaints.clear()


def test_a_second_visit_takes_less_than_100_kb(browser, server):
    """Bytes over the wire, with the headers, as the browser counts them."""
    context = browser.new_context()
    page = context.new_page()
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    received = []
    network.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    visits = []
    for _ in range(2):
        received.clear()
        page.goto(server)
        expect(page.locator("#start")).to_be_visible()
        seen = -1
        while seen != len(received):  # A page that is open keeps a connection, so its network is never idle.
            seen = len(received)
            page.wait_for_timeout(1000)
        visits.append(sum(received))
    context.close()
    assert visits[0] < 1_300_000
    assert visits[1] < 100_000


# The live mirror


def mirror_part(visit: Visit, part: str):
    return visit.page.locator(f"#mirror {part}")


def shown_in_mirror(visit: Visit) -> Image.Image:
    _, _, content = mirror_part(visit, "img").get_attribute("src").partition(",")
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        return picture.convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference, of 255."""
    return fmean(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def test_the_mirror_dreams_on_the_camera_takes_other_settings_and_keeps_a_picture(visit, tmp_path):
    """Without a camera, or without its permission, it says so and can be started again."""
    start, status = mirror_part(visit, ".start"), mirror_part(visit, "p")
    start.click()
    expect(status).to_contain_text("does not let this page use the camera")
    for error, sentence in (("NotFoundError", "no camera"), ("NotReadableError", "another program")):
        visit.page.evaluate(
            "error => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', error); }; }", error
        )
        start.click()
        expect(status).to_contain_text(sentence)
    expect(start).to_be_visible()
    expect(mirror_part(visit, ".panel")).to_be_hidden()
    visit.page.evaluate("delete navigator.mediaDevices.getUserMedia")
    visit.context.grant_permissions(["camera"])

    seen = ImageOps.mirror(seen_by_camera()).resize((256, 192), Image.Resampling.BILINEAR)
    start.click()
    image = mirror_part(visit, "img")
    expect(image).to_have_attribute("src", re.compile("^data:image/jpeg"))
    assert difference(shown_in_mirror(visit), seen) < 0.7 * difference(shown_in_mirror(visit), ImageOps.mirror(seen))
    expect(mirror_part(visit, ".end")).to_be_focused()

    mirror_part(visit, "select").select_option("efficientnet_lite0/block4")
    mirror_part(visit, "input").fill("10")
    for _ in range(3):  # The two frames under way may still have the settings from before.
        expect(image).not_to_have_attribute("src", image.get_attribute("src"))
    grows(visit, seen, beyond=12)
    mirror_part(visit, ".keep").click()
    visit.says("Done in 1 step · 256×192 pixels")
    expect(visit.page.locator("#history .card")).to_have_count(1)
    with Image.open(visit.saved(tmp_path, "featviz_deepdream.png")) as kept:
        assert difference(kept.convert("RGB"), seen) > 12
        recipe = metadata.read(kept, RECIPES).recipe
    assert (recipe.layer, recipe.strength, recipe.size) == ("efficientnet_lite0/block4", 10, 256)

    before = image.get_attribute("src")
    expect(image).not_to_have_attribute("src", before)  # It goes on.
    visit.tab("style_transfer")
    expect(start).not_to_have_attribute("hidden", "")  # Another tab is open, so it has ended.
    visit.tab("deepdream")
    start.click()
    mirror_part(visit, ".end").click()
    expect(mirror_part(visit, ".panel")).to_be_hidden()
    expect(start).to_be_focused()


def grows(visit: Visit, seen: Image.Image, beyond: float) -> None:
    """Wait until the dream on a picture that stands still has changed it that much."""
    for _ in range(LONG // 100):
        if difference(shown_in_mirror(visit), seen) > beyond:
            return
        visit.page.wait_for_timeout(100)
    raise AssertionError(f"The dream has changed the picture by {difference(shown_in_mirror(visit), seen):.1f} of 255.")
