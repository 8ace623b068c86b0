"""The page as a program."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

FIRST_CLICK = """
import sys
from featviz import ui
from featviz.recipes.deepdream import DeepDream
from featviz.runtime.estimate import expected_run
from featviz.runtime.stream import check
from featviz.ui import server

def launch(*_, **__):
    before = set(sys.modules)
    for layer in ("vgg19/relu4_4", "efficientnet_lite0/block9"):
        check(DeepDream(layer=layer), ["image"])
        expected_run(DeepDream(layer=layer), {"image": (640, 480)})
    print(*sorted(set(sys.modules) - before))

ui.launch = launch
server.serve(None, server.parse([]))
"""


def test_the_first_click_imports_nothing():
    """torch imports its compiler when it first counts a network, which took up to a minute on a busy server."""
    command = [sys.executable, "-c", FIRST_CLICK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
