"""Regenerate the tables of docs/networks.md and docs/space.md, docs/parameters.md and docs/python.md from the source: `make readme`.

A table is the text between `<!-- table: name -->` and `<!-- end -->`. A test fails when a page is stale.
"""

import re
from pathlib import Path

from pydantic.fields import FieldInfo

from featviz.limits import LIMITS
from featviz.networks.table import NETWORKS
from featviz.recipes.recipe import Recipe, choices
from featviz.recipes.table import RECIPES
from scripts import reference

ROOT = Path(__file__).parent.parent

PARAMETERS_HEAD = """# Parameters

The page, the API, MCP, the command line and Python have the same parameters. `make readme` writes this page from the recipes.
"""

TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> dict[Path, str]:
    """Return the fresh text of every document that is generated, in whole or in part."""
    with_tables = [ROOT / "docs" / name for name in ("networks.md", "space.md")]
    return {
        **{page: fresh(page.read_text(encoding="utf-8")) for page in with_tables},
        reference.PARAMETERS: "\n".join([PARAMETERS_HEAD, *map(parameters, RECIPES.values())]),
        reference.DOCUMENT: reference.reference(),
    }


def fresh(text: str) -> str:
    """Return a document's text with every table regenerated."""
    tables = {"networks": networks(), "variables": variables()}
    return TABLE.sub(lambda match: f"{match[1]}{tables[match[2]]}{match[3]}", text)


def parameters(recipe: type[Recipe]) -> str:
    """Return a recipe's heading and the table of its fields: name, default, meaning with range."""
    rows = [(f"`{name}`", _code(field.default), _meaning(field)) for name, field in recipe.model_fields.items()]
    return f"## {recipe.title}\n\n{_table(('parameter', 'default', 'meaning'), rows)}"


def networks() -> str:
    """Return the table of `NETWORKS`."""
    rows = [
        (f"`{name}`", spec.title, _names(tuple(spec.layers)), spec.good_for, spec.licence, spec.weights.source)
        for name, spec in NETWORKS.items()
    ]
    return _table(("name", "network", "layers, shallow to deep", "good for", "licence of the weights", "source"), rows)


VARIABLES = (
    (
        "FEATVIZ_REVISIONS",
        "",
        "Revisions of networks on the Hub, as in `timm/resnet50.tv_in1k@main lucid-dl/googlenet@main`: branches, tags or commits. "
        "A file of a revision named here is checked against the Hub's own hash, not against ours.",
    ),
    (
        "HF_HOME",
        "~/.cache/huggingface",
        "Folder of downloads. On a Space, use persistent storage, such as `/data`, to keep them after a restart.",
    ),
    ("HF_ENDPOINT", "https://huggingface.co", "The Hub to download from; a mirror, for example."),
    ("HF_HUB_OFFLINE", "", "`1` forbids downloads. The bundled networks and those downloaded before still work."),
    (
        "HF_HUB_DISABLE_XET",
        "",
        "`1` downloads by plain HTTP. Without it, a download by Xet that stalls is restarted by plain HTTP.",
    ),
    (
        "HF_TOKEN",
        "",
        "A token for private or gated repositories. The networks of featviz need none. On a Space, make it a *secret*.",
    ),
)
"""(name, default, meaning) of the variables that are not in `LIMITS`."""


def variables() -> str:
    """Return the table of environment variables."""
    rows = [(limit.variable, str(limit.default or ""), limit.meaning) for limit in LIMITS] + list(VARIABLES)
    return _table(
        ("variable", "default", "meaning"),
        [(f"`{name}`", _code(default), meaning) for name, default, meaning in rows],
    )


def _meaning(field: FieldInfo) -> str:
    names = tuple(filter(None, choices(field)))
    return f"{field.description} {_names(names)}." if names else field.description


def _code(value: object) -> str:
    """Return a value as code; nothing for an empty text, which Markdown cannot show as code."""
    return "" if value == "" else f"`{value}`"


def _names(names: tuple[str, ...]) -> str:
    """Return up to four names in full; of more, the first, the last and the count."""
    if len(names) <= 4:
        return ", ".join(f"`{name}`" for name in names)
    return f"`{names[0]}` to `{names[-1]}`, {len(names)} in all"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
