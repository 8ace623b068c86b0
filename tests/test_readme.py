"""The documents are true: generated parts are fresh, snippets run as typed, links lead to files and headings."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from snippets import ROOT, run, snippets

from featviz import __version__, cli
from featviz.networks.cache import load_untrained
from featviz.networks.table import BUNDLED, NETWORKS
from featviz.recipes import presets
from featviz.recipes.table import RECIPES
from scripts import readme, reference

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def page(name: str) -> str:
    """Return the text of a page of docs/."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def longest_side(path: Path) -> int:
    with Image.open(path) as picture:
        picture.load()
        return max(picture.size)


@pytest.mark.parametrize(("path", "text"), readme.pages().items(), ids=lambda value: getattr(value, "name", ""))
def test_generated_pages_are_fresh(path, text):
    assert path.read_text(encoding="utf-8") == text, "run `make readme`"


def test_every_recipe_has_a_table_of_parameters():
    parameters = readme.pages()[reference.PARAMETERS]
    assert re.findall(r"^## (.+)$", parameters, re.MULTILINE) == [recipe.title for recipe in RECIPES.values()]
    for recipe in RECIPES.values():
        _, _, section = parameters.partition(f"## {recipe.title}\n")
        assert re.findall(r"^\| `(\w+)` \|", section.partition("\n## ")[0], re.MULTILINE) == list(recipe.model_fields)


def test_a_stale_table_is_noticed():
    networks = page("networks")
    assert [
        page(name).count(f"<!-- table: {table} -->") for name, table in (("networks", "networks"), ("space", "variables"))
    ] == [1, 1]
    stale = re.sub(r"\| `(\w+)` \|.*\n", "", networks, count=1)
    assert stale != networks
    assert readme.fresh(stale) == networks


def test_the_front_matter_of_the_space_is_valid():
    front = dict(re.findall(r"^(\w+): (.+)$", TEXT.split("---\n")[1], re.MULTILINE))
    assert TEXT.startswith("---\n")
    assert front["sdk"] == "gradio"
    assert (ROOT / front["app_file"]).is_file()
    assert len(front["short_description"]) <= 60
    assert {front["colorFrom"], front["colorTo"]} <= {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert front["license"] == "mit"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def listed(name: str) -> list[str]:
    """The items of a list in the front matter."""
    return re.search(rf"^{name}:\n((?:  - .+\n)+)", TEXT, re.MULTILINE)[1].replace("  - ", "").splitlines()


def test_the_space_names_and_preloads_what_the_table_of_networks_has():
    rows = {spec.weights.repo: spec.weights for name, spec in NETWORKS.items() if name not in BUNDLED}
    assert set(listed("models")) == set(rows)
    for repo, file, *revision in map(str.split, listed("preload_from_hub")):
        assert (file, revision or ["main"]) == (rows[repo].file, [rows[repo].revision])


def test_every_variable_that_is_read_is_explained_and_no_other():
    read = {name for path in (ROOT / "featviz").rglob("*.py") for name in re.findall(r'"(FEATVIZ_\w+)"', path.read_text("utf-8"))}
    assert read == set(re.findall(r"^\| `(FEATVIZ_\w+)` \|", page("space"), re.MULTILINE))


def test_the_rooms_are_the_folders_and_the_command_line():
    rooms = re.findall(r"^\| `featviz/(\w+)(?:/|\.py)` \|", page("architecture"), re.MULTILINE)
    folders = [path.parent.name for path in (ROOT / "featviz").glob("*/__init__.py")]
    assert sorted(rooms) == sorted([*folders, "cli"])


def test_the_guide_to_layers_has_every_layer_of_the_bundled_networks_with_its_receptive_field():
    guide = page("layers")
    row = re.compile(r"^\| (`\w+`(?:(?:,| to) `\w+`)*) \| (\d+)(?: to (\d+))? \|", re.MULTILINE)
    for name in BUNDLED:
        section = guide.partition(f"## {NETWORKS[name].title}\n")[2].partition("\n## ")[0]
        network, layers, covered = load_untrained(name), list(NETWORKS[name].layers), []
        for names, low, high in row.findall(section):
            first, last = re.findall(r"\w+", names)[0], re.findall(r"\w+", names)[-1]
            covered += layers[layers.index(first) : layers.index(last) + 1]
            fields = [network.receptive_field(layer) for layer in (first, last)]
            assert [field.last[0] - field.first[0] + 1 for field in fields] == [int(low), int(high or low)], names
        assert covered == layers


DOCUMENTS = [path for folder in (ROOT, ROOT / "docs") for path in folder.glob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_to_files_and_headings(document):
    text = document.read_text(encoding="utf-8")
    assert [link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not (document.parent / link).is_file()] == []
    for file, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", text):
        target = document.parent / file if file else document
        headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in [heading.lower().replace(" ", "-") for heading in headings], (file, anchor)


def test_every_document_is_reached_from_the_readme_which_has_less_than_150_lines():
    assert len(TEXT.splitlines()) < 150
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        document = waiting.pop()
        reached.add(document)
        links = re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        waiting += {(document.parent / link).resolve() for link in links} - reached
    assert set(DOCUMENTS) <= reached


def test_the_changelog_and_the_citation_name_this_version():
    """On the day when both were written. Later changes stand under `[Unreleased]`."""
    released = re.findall(r"^## \[([\d.]+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    cited = re.findall(r"^(?:version|date-released): (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert released[0] == tuple(cited)
    assert released[0][0] == __version__


def test_python_and_the_command_line_run_as_typed(tmp_path, monkeypatch, capsys):
    """The first command in a process of its own, the others in this one: each start would import torch again.

    tests/test_package.py runs the Python of README.md.
    """
    first, *others = snippets("docs/command_line.md", "bash")[0].splitlines()
    written = run(["bash", "-euc", first], tmp_path).stdout.splitlines()
    monkeypatch.chdir(tmp_path)
    exec(snippets("docs/python.md", "python")[0], {})
    assert capsys.readouterr().out.splitlines()[-1] == "frame 6 of 6"
    assert (tmp_path / "journey.mp4").stat().st_size > 1000
    for command in others:
        _, _, program, *arguments = shlex.split(command)
        assert program == "featviz"
        assert cli.main(arguments) == cli.SUCCESS, command
    *more, estimate = capsys.readouterr().out.splitlines()
    dreams = [f"dreams/{path.stem}.png" for path in sorted((ROOT / "examples").glob("*.jpg"))]
    assert [*written, *more] == ["dream.jpg", "painted.png", "journey.mp4", "castle.png", *dreams]
    assert estimate.startswith("About ")
    assert longest_side(tmp_path / "dream.jpg") == presets.FINISHES["Draft"].size
    assert longest_side(tmp_path / "painted.png") == 128
