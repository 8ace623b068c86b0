"""The picture of the floors in README.md is the rule; this reads it, and every import."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "featviz"

RESTS_ON = {
    ("limits", "errors"),
    *(("user_network", below) for below in ("loading", "network", "networks", "receptive", "weights")),
    *(("loading", below) for below in ("network", "networks", "hub")),
    *(("network", below) for below in ("networks", "receptive")),
    *(("networks", below) for below in ("receptive", "weights", "trunks", "efficientnet_lite")),
    ("weights", "hub"),
    ("efficientnet_lite", "trunks"),
    ("memory", "machine"),
    ("optimisers", "images"),
    ("video", "images"),
    ("devices", "network"),
    *((above, "precision") for above in ("images", "statistics")),
    ("video", "hdr"),
}
"""The only imports within a floor. Recipes never import each other."""

TORCH = {1, 3, 4, 5, 6}
"""The floors where tensors are; above them there are pictures, and errors and fields need neither."""

FILES = sorted([*PACKAGE.rglob("*.py"), ROOT / "app.py"])


def floors() -> dict[str, int]:
    """Name of each file or folder, without its ending → its floor."""
    lines = re.findall(r"^(\d) │ ((?:\S+ ? ?)+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"(\.py|/)$", "", name): int(floor) for floor, names in lines for name in names.split()}


def name(path: Path) -> str:
    """As in the picture: the file without its ending, or the folder it is in."""
    return path.stem if path.parent in (PACKAGE, ROOT) else path.relative_to(PACKAGE).parts[0]


def imported(node: Path | ast.AST) -> Iterator[str]:
    """Every module that is really imported, also inside functions; not what `if TYPE_CHECKING` keeps from running."""
    if isinstance(node, Path):
        node = ast.parse(node.read_text(encoding="utf-8"))
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)
    elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        for child in ast.iter_child_nodes(node):
            yield from imported(child)


def own(module: str) -> str | None:
    """`featviz.recipe.param` → recipe, `featviz.run` → __init__, `torch.nn` → None."""
    assert not module.startswith("."), f"write '{module}' with its full name"
    package, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    if package != "featviz":
        return None
    return first if first in floors() else "__init__"


def test_every_file_has_a_floor_and_every_floor_its_files():
    assert {name(path) for path in FILES} == set(floors())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_to_lower_floors(path):
    here, floor = name(path), floors()
    for module in imported(path):
        there = own(module)
        if there not in (None, here):
            allowed = floor[there] < floor[here] or (here, there) in RESTS_ON
            assert allowed, f"{here} on floor {floor[here]} imports {module} from floor {floor[there]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_gradio_tqdm_and_codecs_stay_where_they_belong(path):
    packages = {module.partition(".")[0] for module in imported(path)}
    if floors()[name(path)] not in TORCH:
        assert not packages & {"torch", "torchvision"}
    if name(path) != "ui":
        assert "gradio" not in packages
    if name(path) != "cli":
        assert "tqdm" not in packages
    if name(path) != "video":
        assert "av" not in packages
    if name(path) != "hub":
        assert not packages & {"huggingface_hub", "httpx2"}


def test_this_reads_imports_wherever_they_are(tmp_path):
    source = tmp_path / "some.py"
    source.write_text(
        "import torch.nn, json\n"
        "from featviz import ui, run\n"
        "if TYPE_CHECKING:\n    import gradio\n"
        "def inside():\n    from featviz.recipes.deepdream import DeepDream\n"
    )
    found = list(imported(source))
    assert found == ["torch.nn", "json", "featviz.ui", "featviz.run", "featviz.recipes.deepdream.DeepDream"]
    assert [own(module) for module in found] == [None, None, "ui", "__init__", "dream"]
