"""The page in a real browser, as a visitor uses it."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import av
import gradio as gr
import hostile
import pytest
from PIL import Image

import featviz as api
from featviz.recipes import presets
from featviz.recipes.recipe import bounds, group
from featviz.recipes.table import RECIPES
from featviz.ui.controls import control, label
from featviz.ui.page import inner_title

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

LONG = 180_000
"""Milliseconds: the patience of a test with a busy machine, not a statement about speed."""


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    if MISSING:
        pytest.fail(f"browser tests have to run here, but {MISSING}")
    expect.set_options(timeout=LONG)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: "Browser", server: str) -> Iterator["Visit"]:
    """Opens the page; at the end, nothing may have been asked of another server, and nothing may have gone wrong in it."""
    visit = Visit(browser, server)
    yield visit
    visit.page.close()
    assert visit.hosts == {"127.0.0.1"}
    assert visit.complaints == []


class Visit:
    def __init__(self, browser: "Browser", server: str):
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        self.page: Page = browser.new_page(viewport={"width": 1440, "height": 900}, accept_downloads=True)
        self.page.set_default_timeout(LONG)
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or "127.0.0.1"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        self.page.goto(server)
        self.tab("deepdream")

    def leave(self, address: str | None = None) -> None:
        """Open another page, or this one again. Leaving cuts off what a page still asks for, of which it complains; so what
        was wrong before is looked at now, and what is wrong after counts again."""
        assert self.complaints == []
        self.page.goto(address or self.page.url, wait_until="commit")
        self.complaints.clear()

    def tab(self, name: str) -> None:
        self.name = name
        recipe = RECIPES[name]
        self.page.get_by_role("tab", name=recipe.tab_group, exact=True).click()
        if [other.tab_group for other in RECIPES.values()].count(recipe.tab_group) > 1:
            title = inner_title(recipe)
            tab = self.page.get_by_role("tab", name=title, exact=True)
            if not tab.is_visible():  # On a phone the last tabs are behind a menu.
                self.page.locator(".overflow-menu > button:visible").last.click()
                tab = self.page.locator(".overflow-dropdown button:visible", has_text=title)
            tab.click()
        expect(self.run).to_be_visible(timeout=LONG)

    @property
    def run(self):
        return self.page.get_by_role("button", name=RECIPES[self.name].action)

    @property
    def result(self):
        return self.page.locator(f"#{self.name}_result")

    @property
    def preview(self):
        return self.result.get_by_alt_text("The picture so far.")

    def choose(self, path: Path) -> None:
        role = next(iter(RECIPES[self.name].images))
        box = self.page.locator(f"#{self.name}_{role}")
        box.locator("input[type=file]").set_input_files(path)
        expect(box.get_by_label("Remove Image").or_(box.get_by_label("Clear"))).to_be_visible(timeout=LONG)

    def set(self, label: str, value: float) -> None:
        self.page.get_by_label(f"number input for {label}", exact=True).locator("visible=true").fill(str(value))

    def value(self, label: str) -> str:
        return self.page.get_by_label(f"number input for {label}").locator("visible=true").input_value()

    def button(self, name: str):
        return self.page.get_by_role("button", name=name).locator("visible=true")

    def says(self, text: str | re.Pattern) -> None:
        expect(self.result.locator(".block.status")).to_contain_text(text, timeout=LONG)

    def watch(self) -> None:
        """From now on, note each status line and each preview: a quick run is over before a test could look twice."""
        self.result.evaluate(
            """result => {
                window.lines = new Set(); window.previews = new Set();
                new MutationObserver(() => {
                    result.querySelectorAll(".status p").forEach(line => window.lines.add(line.textContent));
                    result.querySelectorAll("img[alt='The picture so far.']").forEach(img => window.previews.add(img.src));
                }).observe(result, {subtree: true, childList: true, attributes: true, characterData: true});
            }"""
        )

    def watched(self) -> tuple[list[str], list[str]]:
        return tuple(self.page.evaluate("[[...window.lines], [...window.previews]]"))

    def outcome(self, path: Path) -> str:
        """What the page says when a file was chosen and, where it can be, is run. The box is empty before and after."""
        (role, *_) = RECIPES[self.name].images
        box = self.page.locator(f"#{self.name}_{role}")
        box.locator("input[type=file]").set_input_files(path)
        remove = box.get_by_label("Remove Image")
        refusal = self.page.get_by_text(f"Invalid file type: {path.name}. Only image/* allowed.")
        remove.or_(refusal).wait_for()
        if refusal.count():
            return refusal.inner_text()
        self.page.evaluate("window.lines.clear()")
        self.run.dispatch_event("click")
        self.page.wait_for_function(
            "button => window.lines.has('Waiting in the queue…') && !button.disabled", arg=self.run.element_handle()
        )
        for close in self.page.get_by_test_id("toast-close").all():
            close.dispatch_event("click")
        remove.dispatch_event("click")
        return self.result.locator(".status p").inner_text()

    def saved(self, folder: Path, extension: str) -> Path:
        label = f"Download {extension.upper()}"
        with self.page.expect_download() as download:
            self.result.get_by_role("button", name=label).or_(self.result.get_by_role("link", name=label)).click()
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        assert path.name == f"featviz_{self.name}.{extension}"
        return path

    def downloaded(self, folder: Path) -> Image.Image:
        with Image.open(self.saved(folder, "png")) as picture:
            picture.load()
        return picture


def first_example(name: str, folder: Path) -> presets.Example:
    return next(example for example in presets.read_examples(folder) if example.recipe.name == name)


@pytest.mark.parametrize("name", ["deepdream", "style_transfer", "reconstruct_content"])
def test_the_first_example_runs_on_one_click(visit, quick_examples, tmp_path, name):
    example = first_example(name, quick_examples)
    visit.tab(name)
    visit.watch()
    visit.page.get_by_role("button", name=example.title).click()
    visit.says("Done in")
    expect(visit.result.get_by_test_id("imageslider-image").first).to_be_visible(timeout=LONG)
    lines, previews = visit.watched()
    assert any(re.fullmatch(r"[A-Z][\w ]+ · step \d+ of \d+ · about \d+ s left", line) for line in lines)
    assert len(previews) >= 2  # It moves while it runs.
    picture = visit.downloaded(tmp_path)
    assert (picture.format, max(picture.size)) == ("PNG", example.recipe.size)
    with Image.open(next(iter(example.pictures.values()))) as before:
        assert picture.tobytes() != before.convert("RGB").resize(picture.size).tobytes()
    expect(visit.run).to_be_enabled()


def test_a_zoom_moves_while_it_is_made_and_plays_when_it_is_done_or_stopped(visit, quick_examples, tmp_path):
    example = first_example("deepdream_zoom", quick_examples)
    visit.tab("deepdream_zoom")
    visit.watch()
    visit.page.get_by_role("button", name=example.title).click()
    visit.says("Done in")
    player = visit.result.locator("video")
    expect(player).to_be_visible(timeout=LONG)
    lines, previews = visit.watched()
    assert any(re.fullmatch(r"Frame \d+ of \d+ · step \d+ of \d+ · about \d+ s left", line) for line in lines)
    assert len(previews) >= 2
    player.evaluate("video => video.readyState >= 2 || new Promise(ready => video.addEventListener('loadeddata', ready))")
    assert player.evaluate("video => [video.videoWidth, video.duration]") == pytest.approx([96, 1], abs=0.01)
    assert pictures(visit.saved(tmp_path, "mp4")) == 12

    visit.set("Seconds", 60)
    visit.run.click()
    visit.says(re.compile(r"Frame ([3-9]|\d\d+) of 720"))
    visit.result.get_by_role("button", name="Stop").click()
    visit.says("Stopped at step")
    expect(player).to_be_visible(timeout=LONG)
    assert 2 <= pictures(visit.saved(tmp_path, "mp4")) < 720


def pictures(path: Path) -> int:
    with av.open(path) as file:
        return len(list(file.decode(video=0)))


def test_stop_keeps_the_latest_picture_and_another_run_starts(visit, quick_examples, tmp_path):
    visit.choose(next(iter(first_example("deepdream", quick_examples).pictures.values())))
    visit.set("Steps", int(bounds(RECIPES["deepdream"].model_fields["steps"])[1]))
    visit.run.click()
    expect(visit.preview).to_be_visible(timeout=LONG)
    visit.result.get_by_role("button", name="Stop").click()
    visit.says("Stopped at step")
    stopped = visit.downloaded(tmp_path)

    visit.set("Steps", 1)
    visit.set("Size", 64)
    visit.run.click()
    visit.says("Done in")
    assert visit.downloaded(tmp_path).tobytes() != stopped.tobytes()
    expect(visit.page.get_by_label("Earlier results").or_(visit.page.get_by_text("Earlier results")).first).to_be_visible()


def test_an_example_takes_the_place_of_the_run_under_way(visit, quick_examples):
    button = visit.page.get_by_role("button", name=first_example("deepdream", quick_examples).title)
    for _ in range(2):
        button.click()
        visit.says("step")  # "step 1 of 24", or already "Done in 24 steps"
    visit.says("Done in")


def quick(visit: Visit, folder: Path) -> Path:
    """The cat, about to be dreamt in a second or two."""
    path = folder / "cat.jpg"
    visit.choose(path)
    visit.set("Steps", 1)
    visit.set("Size", 96)
    return path


def test_a_look_and_a_finish_set_the_fields(visit, quick_examples):
    look = next(look for look in presets.read_presets(quick_examples) if look.recipe.steps != RECIPES["deepdream"]().steps)
    visit.button(look.title).click()
    expect(visit.page.get_by_label("number input for Steps").locator("visible=true")).to_have_value(str(look.recipe.steps))
    expect(visit.button(look.title)).to_have_class(re.compile("chosen"))
    visit.page.get_by_label("Draft").locator("visible=true").check()
    expect(visit.page.get_by_label("number input for Size").locator("visible=true")).to_have_value(
        str(presets.FINISHES["Draft"].size)
    )


def test_a_number_that_cannot_be_used_gives_way_to_the_one_before_with_a_word(visit):
    for name, typed, kept, said in (
        ("Size", "", "400", "This is not accepted; expected a number from 64 to 4096. The value stays 400."),
        ("Strength", "abc", "2.5", "This is not accepted; expected a number from 0.1 to 10. The value stays 2.5."),
        ("Steps", "1e9", "6", "1e9 is not accepted; expected a number from 1 to 100. The value stays 6."),
        ("Steps", "9", "9", None),
    ):
        box = visit.page.get_by_label(f"number input for {name}", exact=True).locator("visible=true")
        box.press("Control+a")
        box.press_sequentially(typed) if typed else box.press("Delete")
        box.press("Tab")
        expect(box).to_have_value(kept)
        sentence = visit.page.locator(".block", has=box).locator(".refused")
        expect(sentence.last).to_have_text(said) if said else expect(sentence).to_have_count(0)
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.button("Copy link").click()
    expect(visit.page.get_by_text("Copied.").locator("visible=true")).to_be_visible()
    assert visit.page.evaluate("navigator.clipboard.readText()").endswith("?recipe=deepdream&steps=9")


def test_what_has_no_effect_cannot_be_set(visit):
    visit.button("Advanced").click()
    boxes = {
        name: visit.page.get_by_role("textbox", name=re.compile(f"^{name} ")).locator("visible=true")
        for name in ("Channels", "Class name")
    }
    expect(boxes["Channels"]).to_be_enabled()
    boxes["Class name"].fill("pizza")
    expect(boxes["Channels"]).to_be_disabled()
    expect(visit.page.locator("#deepdream_guide")).to_contain_text("No effect beside class name")
    boxes["Class name"].fill("")
    expect(boxes["Channels"]).to_be_enabled()
    expect(visit.page.locator("#deepdream_guide")).not_to_contain_text("No effect")


def test_the_list_of_layers_opens_at_the_chosen_one(visit):
    visit.page.get_by_label("Layer", exact=True).locator("visible=true").click()
    chosen = visit.page.get_by_role("option", selected=True).locator("visible=true")
    expect(chosen).to_contain_text("VGG-19 · relu4_4")
    expect(chosen).to_be_in_viewport()


def test_an_estimate_appears_and_offers_what_fits(visit, quick_examples):
    visit.choose(quick_examples / "cat.jpg")
    line = visit.page.locator(".block.forecast:not(.copied)").locator("visible=true")
    expect(line).to_contain_text(re.compile(r"About \d+ \w+ and \d+\.\d GB"), timeout=LONG)
    visit.set("Steps", 100)
    visit.set("Size", 4096)
    expect(line).to_contain_text("would fit", timeout=LONG)
    visit.button("Use size").click()
    expect(line).not_to_contain_text("would fit", timeout=LONG)
    assert 64 <= int(visit.value("Size")) < 4096


def test_what_is_not_painted_stays_as_it_is(visit, quick_examples, tmp_path):
    path = quick(visit, quick_examples)
    visit.button("Paint where to dream").click()
    editor = visit.page.locator("#deepdream_painting")
    expect(editor.locator("canvas").first).to_be_visible(timeout=LONG)
    editor.scroll_into_view_if_needed()
    visit.page.wait_for_timeout(1500)  # The canvas has no sign by which it says that it is ready for the brush.
    box = editor.locator("canvas").first.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visit.page.mouse.move(*middle)
    visit.page.mouse.down()
    visit.page.mouse.move(middle[0] + 20, middle[1], steps=5)
    visit.page.mouse.up()
    visit.run.click()
    visit.says("Done in")
    result = visit.downloaded(tmp_path)
    everywhere = api.run(RECIPES["deepdream"](size=96, steps=1), image=path)
    picture = api.run(RECIPES["deepdream"](size=96, steps=1), image=path, mask=corner(result.size))
    there = (result.width // 2, result.height // 2)
    assert result.getpixel(there) != picture.getpixel(there)
    for here in [(result.width - 2, 2), (2, result.height - 2), (result.width - 2, result.height - 2)]:
        assert result.getpixel(here) == picture.getpixel(here) != everywhere.getpixel(here)


def corner(size: tuple[int, int]) -> Image.Image:
    """A mask of one place at the top left, so that the picture itself is everywhere else."""
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, 2, 2))
    return mask


def test_every_layer_is_shown_and_a_click_sets_it(visit, quick_examples):
    visit.choose(quick_examples / "cat.jpg")
    visit.button(RECIPES["deepdream"].sweep_action).click()
    sheet = visit.page.locator("#deepdream_sheet")
    sheet.locator("button", has_text=re.compile(r"^\s*relu1_1\s*$")).click()
    expect(visit.page.get_by_label("Layer", exact=True).locator("visible=true")).to_have_value("VGG-19 · relu1_1")
    sheet.get_by_role("button", name="Stop").click()
    expect(sheet).to_contain_text("Stopped")
    sheet.get_by_role("button", name="Close").click()
    expect(sheet).to_be_hidden()


def test_strengths_can_be_changed_while_it_works(visit, quick_examples):
    visit.tab("style_transfer")
    visit.page.get_by_role("button", name="Advanced").locator("visible=true").click()
    for role, name in (("content", "cat.jpg"), ("style", "great_wave.jpg")):
        visit.page.locator(f"#style_transfer_{role} input[type=file]").set_input_files(quick_examples / name)
    visit.set("Size", 96)
    visit.set("Steps", 1000)
    visit.run.click()
    bars = visit.result.locator(".block.measures")
    expect(bars).to_contain_text("relu1_1")
    visit.set("Style strength", 0)
    expect(bars).not_to_contain_text("relu1_1")  # A style that is not wanted is not looked at.
    expect(bars).to_contain_text("content")
    visit.says("left")
    visit.result.get_by_role("button", name="Stop").click()
    visit.says("Stopped")


def test_a_result_goes_on_to_style_transfer_and_earlier_ones_come_back(visit, quick_examples, tmp_path):
    quick(visit, quick_examples)
    visit.run.click()
    visit.says("96×")
    first = visit.downloaded(tmp_path)
    visit.set("Size", 64)
    visit.run.click()
    visit.says("64×")
    visit.page.locator("#deepdream_earlier").get_by_role("button").locator("visible=true").first.click()
    visit.says("96×")
    assert visit.downloaded(tmp_path).tobytes() == first.tobytes()
    expect(visit.page.locator("#deepdream_earlier img")).to_have_count(2, timeout=LONG)  # The latest is there, too.

    visit.page.set_viewport_size({"width": 390, "height": 844})
    visit.page.wait_for_function("document.documentElement.scrollWidth <= 390")

    visit.button("Use as input").click()
    expect(visit.page.locator("#deepdream_image img")).to_have_attribute("src", re.compile("featviz_deepdream"), timeout=LONG)
    visit.button("Send to Style Transfer").click()
    content = visit.page.locator("#style_transfer_content img")
    expect(content).to_be_visible(timeout=LONG)
    expect(content).to_have_attribute("src", re.compile("featviz_deepdream"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_copied_link_opens_the_same_tab_with_the_same_settings(visit, name):
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.tab(name)
    fields = RECIPES[name].model_fields
    sliders = [field for field in fields if not group(fields[field]) and isinstance(control(field, fields[field]), gr.Slider)]
    chosen = {field: bounds(fields[field])[1] for field in sliders}
    chosen |= {"channel": 111} if "channel" in chosen else {}  # The layer has fewer channels than the field accepts.
    for field, value in chosen.items():
        visit.set(label(field), value)
    visit.button("Copy link").click()
    expect(visit.page.get_by_text("Copied.").locator("visible=true")).to_be_visible()
    link = visit.page.evaluate("navigator.clipboard.readText()")
    changed = RECIPES[name](**chosen).changed_fields
    assert link == f"{visit.page.url}?recipe={name}&" + "&".join(f"{field}={value}" for field, value in changed.items())
    visit.leave(link)
    expect(visit.run).to_be_visible()
    for field, value in chosen.items():
        box = visit.page.get_by_label(f"number input for {label(field)}", exact=True).locator("visible=true")
        expect(box).to_have_value(f"{value:g}")


def test_where_a_page_may_not_copy_the_link_is_shown(visit):
    visit.page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    visit.button("Copy link").click()
    expect(visit.page.get_by_label("Link", exact=True).locator("visible=true")).to_have_value(
        f"{visit.page.url}?recipe=deepdream"
    )


@pytest.mark.parametrize(
    ("query", "word"),
    [("recipe=dream", "There is no recipe 'dream'"), ("recipe=deepdream&size=128&steps=900", "steps is '900'; expected")],
)
def test_a_broken_link_opens_the_page_with_a_polite_word(visit, query, word):
    visit.leave(f"{visit.page.url}?{query}")
    expect(visit.page.get_by_test_id("toast-body")).to_contain_text(word)
    expect(visit.run).to_be_enabled()
    expect(visit.page.get_by_label("number input for Size").locator("visible=true")).to_have_value(
        "128" if "128" in query else str(RECIPES["deepdream"]().size)
    )


def test_a_downloaded_result_restores_its_settings_when_it_is_dropped(visit, quick_examples, tmp_path):
    quick(visit, quick_examples)
    visit.set("Strength", 4)
    visit.run.click()
    visit.says("Done in")
    result = visit.saved(tmp_path, "png")
    assert api.recipe_of(result) == RECIPES["deepdream"](size=96, steps=1, strength=4)
    visit.leave()
    expect(visit.run).to_be_visible()
    visit.choose(result)
    expect(visit.page.get_by_text("its settings are restored").locator("visible=true")).to_be_visible()
    assert [visit.value(label) for label in ("Size", "Steps", "Strength")] == ["96", "1", "4"]
    visit.button("Undo").click()
    expect(visit.page.get_by_label("number input for Strength").locator("visible=true")).to_have_value("2.5")
    visit.tab("style_transfer")
    visit.choose(result)
    visit.button("Open there").click()
    visit.name = "deepdream"
    expect(visit.run).to_be_visible()
    expect(visit.page.get_by_label("number input for Strength").locator("visible=true")).to_have_value("4")


def test_switching_tabs_loses_nothing(visit, quick_examples):
    visit.choose(next(iter(first_example("deepdream", quick_examples).pictures.values())))
    visit.set("Steps", 1)
    visit.set("Size", 64)
    visit.run.click()
    visit.tab("style_transfer")
    visit.tab("deepdream")
    visit.says("Done in")
    expect(visit.page.get_by_label("number input for Steps").locator("visible=true")).to_have_value("1")


def test_what_is_not_a_picture_gets_one_sentence_and_the_page_lives_on(visit, quick_examples, tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("This is not a picture.")
    visit.choose(text)
    visit.run.click()
    visit.says("The image is not a picture; PNG, JPEG")
    expect(visit.page.get_by_test_id("toast-body")).to_have_count(1)
    expect(visit.run).to_be_enabled()
    visit.page.get_by_role("button", name=first_example("deepdream", quick_examples).title).click()
    visit.says("Done in")


@pytest.mark.trust
@hostile.in_parts
def test_every_odd_picture_that_is_chosen_is_a_picture_or_a_sentence(visit, quick_examples, tmp_path, record_property, part):
    visit.set("Size", 64)
    visit.set("Steps", 1)
    visit.watch()
    files = hostile.third()[part::3]
    for i, one in enumerate(files):
        path = one.write(tmp_path, f"{i}")  # The same file, chosen again, is no change.
        wanted, _ = hostile.outcome(path)
        said = visit.outcome(path)
        if wanted == hostile.PICTURE and path.suffix != ".html":
            assert re.fullmatch(r"Done in (1 step|2 steps) · \d+×\d+ pixels", said), (one.name, said)
        else:
            assert hostile.is_a_sentence(said) or said.startswith("Invalid file type"), (one.name, said)
    record_property("pictures chosen on the page", len(files))
    quick(visit, quick_examples)
    visit.run.click()
    visit.says("96×")


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
        expect(page.get_by_role("button", name=RECIPES["deepdream"].action)).to_be_visible(timeout=LONG)
        page.wait_for_timeout(3000)  # A page that is open keeps a connection, so its network is never idle.
        visits.append(sum(received))
    context.close()
    assert visits[0] < 1_000_000
    assert visits[1] < 100_000


def test_nothing_overflows_on_a_phone(visit):
    visit.page.set_viewport_size({"width": 390, "height": 844})
    for name in RECIPES:
        visit.tab(name)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_every_picture_has_words_for_those_who_cannot_see_it(visit):
    assert visit.page.locator("img:not([alt])").count() == 0


def test_from_a_channel_to_its_dream(visit, quick_examples):
    example = first_example("activation_maps", quick_examples)
    visit.tab("activation_maps")
    visit.page.get_by_role("button", name=example.title).locator("visible=true").click()
    visit.says(re.compile(r"40 channels of \d+×\d+ · each unit sees 67×67 pixels"))
    visit.result.locator(".grid-wrap button").nth(1).click()
    title = visit.result.locator("h3")
    expect(title).to_contain_text("channel")
    channel = title.inner_text().rpartition(" ")[2]
    expect(title).to_be_focused()
    expect(title).to_be_in_viewport()
    expect(visit.result.get_by_alt_text("Its activation map.")).to_be_visible()
    expect(visit.result.get_by_alt_text("The picture that activates it most.")).to_be_visible()

    visit.button("See what it looks for").click()
    visit.name = "feature_visualization"
    expect(visit.run).to_be_visible()
    expect(visit.page.get_by_label("number input for Channel", exact=True).locator("visible=true")).to_have_value(channel)
    visit.says(re.compile(r"left|Done in"))  # It runs by itself.
    if (stop := visit.result.get_by_role("button", name="Stop")).is_visible():
        stop.click()
    visit.button("Show what every channel").click()
    expect(visit.page.locator(".atlas button img")).to_have_count(40)

    visit.tab("activation_maps")
    visit.button("Dream this channel").click()
    visit.name = "deepdream"
    expect(visit.run).to_be_visible()
    expect(visit.page.get_by_label("Layer", exact=True).locator("visible=true")).to_have_value("EfficientNet-Lite0 · block4")
    visit.button("Advanced").click()
    box = visit.page.locator("label", has_text="Channels of the layer to amplify").locator("visible=true")
    expect(box.locator("input, textarea")).to_have_value(channel)
    visit.set("Steps", 1)
    visit.set("Size", 96)
    visit.run.click()
    visit.says("Done in")


def test_a_board_fills_and_keeps_what_it_has_when_it_is_stopped(visit, quick_examples):
    visit.tab("reconstruct_content")
    visit.choose(next(iter(first_example("reconstruct_content", quick_examples).pictures.values())))
    visit.set("Steps", 2)
    visit.set("Size", 96)
    visit.button(RECIPES["reconstruct_content"].sweep_action).click()
    board = visit.page.locator("#reconstruct_content_sheet")
    expect(board.get_by_text(re.compile(r"relu2_1 · \d+\.\d dB"))).to_be_visible()
    board.get_by_role("button", name="Stop").click()
    expect(board.get_by_text("Stopped. You can choose one of these.")).to_be_visible()
    expect(board.get_by_text(re.compile(r"relu1_1 · \d+\.\d dB"))).to_be_visible()
    expect(visit.run).to_be_enabled()
    picture = board.locator(".grid-container button").first
    assert picture.bounding_box()["width"] >= 180
    picture.click()
    expect(board.locator(".preview img").first).to_be_visible()
    assert board.locator(".preview img").first.bounding_box()["width"] >= 500


NAMELESS = """() => [...document.querySelectorAll('button, input:not([type=file]), select, textarea, a[href], [role=slider]')]
    .filter(control => control.checkVisibility({visibilityProperty: true}))
    .filter(control => !(control.ariaLabel || control.textContent.trim() || control.title || control.labels?.length
        || control.getAttribute('aria-labelledby')))
    .map(control => control.outerHTML.slice(0, 200))"""

PALE = """() => {
    const rgba = colour => [...colour.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
    const luminance = colour => colour.slice(0, 3).map(value => value / 255)
        .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = rgba(getComputedStyle(at).backgroundColor);
            if (colour[3] > 0.9) return colour;
        }
        return [255, 255, 255];
    };
    return [...document.querySelectorAll('main *')]
        .filter(element => element.checkVisibility({visibilityProperty: true}) && !element.closest('[disabled]'))
        .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
        .map(element => {
            const style = getComputedStyle(element), size = parseFloat(style.fontSize);
            const [dark, bright] = [luminance(rgba(style.color)), luminance(behind(element))].sort((a, b) => a - b);
            const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
            return [(bright + 0.05) / (dark + 0.05) / least, element.textContent.trim().slice(0, 40)];
        })
        .filter(([enough]) => enough < 1);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_control_has_a_name_and_every_word_enough_contrast(visit, theme):
    """WCAG 2.2, 4.1.2 and 1.4.3 (AA)."""
    visit.leave(f"{visit.page.url}?__theme={theme}")
    for name in RECIPES:
        visit.tab(name)
        assert visit.page.evaluate(NAMELESS) == []
        assert visit.page.evaluate(PALE) == []
