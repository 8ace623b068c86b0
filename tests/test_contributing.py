"""The steps of CONTRIBUTING.md work: each is performed on a copy of the project."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from snippets import ROOT, run

Typed = Callable[..., str]

STEP = re.compile(
    r"^`(?P<file>[^`\n]+)`, (?:(?P<new>new)|(?P<end>at the end)|above `(?P<above>[^\n]+)`):\n\n```\w+\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def chapter(title: str) -> str:
    """Return the text under a heading. Lines of code that look like headings are none."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    code = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    plain = code.sub(lambda match: "." * len(match[0]), text)
    start = plain.index(f"\n## {title}\n")
    return text[start : plain.index("\n## ", start + 1)]


def perform(title: str, folder: Path) -> int:
    """Perform the steps of a chapter; return how many there were."""
    steps = list(STEP.finditer(chapter(title)))
    for step in steps:
        file, code = folder / step["file"], step["code"]
        if step["new"]:
            assert not file.exists()
            file.write_text(code, "utf-8")
            continue
        text = file.read_text("utf-8")
        if step["end"]:
            file.write_text(text + ("\n\n" if file.suffix == ".py" else "") + code, "utf-8")
            continue
        assert text.count(f"\n{step['above']}") == 1, step["above"]
        file.write_text(text.replace(f"\n{step['above']}", f"\n{code}{step['above']}"), "utf-8")
    return len(steps)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project without ignored files. Large folders are links."""
    copy = tmp_path / "featviz"
    left_out = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "atlas", "out", "benchmarks")
    shutil.copytree(ROOT, copy, ignore=left_out)
    (copy / "examples" / "atlas").symlink_to(ROOT / "examples" / "atlas")
    (copy / "benchmarks").symlink_to(ROOT / "benchmarks")
    return copy


@pytest.fixture
def typed(copy: Path) -> Typed:
    """Run Python in the copy and return its output."""

    def typed(*words: str) -> str:
        return run([sys.executable, *words], copy, copy).stdout

    return typed


def test_a_network(copy, typed):
    assert perform("A network", copy) == 3
    typed("-m", "scripts.readme")
    assert "| `vgg13` | VGG-13 | `relu1_1` to `relu5_2`, 10 in all |" in (copy / "docs" / "networks.md").read_text("utf-8")
    files = ["tests/networks/test_hub_networks.py", "tests/networks/test_table.py", "tests/test_readme.py"]
    assert "passed" in typed("-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", "vgg13 or table or space")
    assert "vgg13/relu1_1" in typed("-m", "featviz", "deepdream", "--help")


def test_an_objective_and_a_recipe(copy, typed):
    assert perform("An objective", copy) == 1
    assert perform("A recipe", copy) == 3
    typed("-m", "scripts.readme")
    files = ["tests/recipes/test_table.py", "tests/test_readme.py", "tests/test_reference.py"]
    assert "passed" in typed("-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", "not typed and not mcp")
    typed("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    typed("-m", "featviz", "forget", "examples/cat.jpg", "gone.png", "--size", "96", "--steps", "8")
    variances = typed(
        "-c",
        "from featviz.media.images import open_picture, to_tensor\n"
        "from featviz.networks.cache import load\n"
        "from featviz.optimise.objectives import contrast\n"
        "objective = contrast('block4')\n"
        "for file in ('examples/cat.jpg', 'gone.png'):\n"
        "    image = to_tensor(open_picture(file).resize((96, 72)))\n"
        "    print(objective(load('efficientnet_lite0').activations(image, objective.layers)).item())",
    )
    before, after = map(float, variances.split())
    assert after < before / 2
    names = typed("-c", "from featviz import ui; print(*(e['api_name'] for e in ui.build().config['dependencies']))").split()
    assert {"forget", "deepdream"} <= set(names)


def test_a_preset(copy, typed):
    assert perform("A preset", copy) == 1
    (command,) = re.findall(r"^```bash\npython (.*)\n```", chapter("A preset"), re.MULTILINE)
    assert typed(*command.split()) == "9_scales.jpg\n"
    with Image.open(copy / "examples" / "presets" / "9_scales.jpg") as thumbnail:
        assert thumbnail.size == (240, 160)
        assert sum(thumbnail.convert("L").histogram()[:5]) < thumbnail.width * thumbnail.height / 2
    assert "scales" in typed("-m", "featviz", "deepdream", "--help")


def test_every_make_target_in_the_text_exists():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"`?make (\w+)", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))) <= targets
