"""docs/python.md has every public name, as in the source. tests/test_readme.py checks that it is fresh."""

import re

import featviz
from scripts import reference

PAGE = reference.DOCUMENT.read_text(encoding="utf-8")


def test_every_public_name_is_explained_once():
    headings = re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)
    assert sorted([*headings, "__version__", "FeatvizError"]) == sorted({*featviz.__all__, "Recipe"})
    assert "FeatvizError" in PAGE.partition("\n## Errors\n")[2]


def test_signatures_sections_and_defaults_are_there():
    assert "def run(recipe: Recipe, *, device: Device = 'auto', **pictures: Pictures) -> Image.Image" in PAGE
    assert "\nRaises:\n\n- `InputError`: a picture is missing" in PAGE
    assert "- `done: bool`: Whether this is the last preview of its run.\n" in PAGE


def test_links_lead_to_headings_of_the_parameters():
    headings = re.findall(r"^## (.+)$", reference.PARAMETERS.read_text(encoding="utf-8"), re.MULTILINE)
    links = re.findall(r"\(parameters\.md#([^)]+)\)", PAGE)
    exported = {name for name in featviz.__all__ if getattr(featviz, name) in featviz.RECIPES.values()}
    assert len(set(links)) == len(exported)
    assert set(links) <= {heading.lower().replace(" ", "-") for heading in headings}
