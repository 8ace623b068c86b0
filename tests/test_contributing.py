"""The steps of CONTRIBUTING.md work: all are performed on one copy of the project."""

import json
import re
import shutil
import sys
from pathlib import Path

from PIL import Image
from snippets import ROOT, run

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


USED = """
import io, json, runpy, sys
from contextlib import redirect_stdout, suppress

import pytest
from importlinter.cli import lint_imports

files, named, *commands = sys.argv[1:]
for command in commands:
    sys.argv = command.split()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
assert pytest.main(["-q", "-p", "no:cacheprovider", "-k", named, *(f"tests/{file}" for file in files.split())]) == 0
assert lint_imports() == 0

from featviz import cli, ui
from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.optimise.objectives import contrast

assert cli.main(["forget", "examples/cat.jpg", "gone.png", "--size=96", "--steps=8"]) == 0
objective = contrast("block4")
images = [to_tensor(open_picture(file).resize((96, 72))) for file in ("examples/cat.jpg", "gone.png")]
with redirect_stdout(io.StringIO()) as text, suppress(SystemExit):
    cli.main(["deepdream", "--help"])
print(json.dumps({
    "variances": [objective(load("efficientnet_lite0").activations(image, objective.layers)).item() for image in images],
    "help": text.getvalue(),
    "endpoints": [event["api_name"] for event in ui.build().config["dependencies"]],
}))
"""

TESTED = "networks/test_hub_networks.py networks/test_table.py recipes/test_table.py test_readme.py test_reference.py"
"""The tests of tables and documents."""


def test_a_copy_on_which_all_chapters_were_performed_passes_its_tests_and_has_what_was_added(tmp_path):
    """Files that git ignores are not copied; large folders are links. All tests run in one process, so that torch is imported once."""
    copy = tmp_path / "featviz"
    left_out = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "atlas", "out", "benchmarks")
    shutil.copytree(ROOT, copy, ignore=left_out)
    (copy / "examples" / "atlas").symlink_to(ROOT / "examples" / "atlas")
    (copy / "benchmarks").symlink_to(ROOT / "benchmarks")
    assert [perform(title, copy) for title in ("A network", "An objective", "A recipe", "A preset")] == [3, 1, 3, 1]
    (thumbnail,) = re.findall(r"^```bash\npython -m (.*)\n```", chapter("A preset"), re.MULTILINE)
    named = "vgg13 or (recipes and table) or (readme and not typed) or reference"
    lines = run([sys.executable, "-c", USED, TESTED, named, thumbnail, "scripts.readme"], copy, copy).stdout.splitlines()
    assert lines[0] == "9_scales.jpg"
    assert "| `vgg13` | VGG-13 | `relu1_1` to `relu5_2`, 10 in all |" in (copy / "docs" / "networks.md").read_text("utf-8")
    results = json.loads(lines[-1])
    before, after = results["variances"]
    assert after < before / 2
    assert all(name in results["help"] for name in ("vgg13/relu1_1", "scales"))
    assert {"forget", "deepdream"} <= set(results["endpoints"])
    with Image.open(copy / "examples" / "presets" / "9_scales.jpg") as picture:
        assert picture.size == (240, 160)
        assert sum(picture.convert("L").histogram()[:5]) < picture.width * picture.height / 2


def test_every_make_target_in_the_text_exists():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"`?make (\w+)", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))) <= targets
