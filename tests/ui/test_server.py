"""The page as a program."""

import json
import subprocess
import sys
from pathlib import Path

from featviz.recipes.table import TABS

ROOT = Path(__file__).parent.parent.parent

SERVED = """
import json, sys, threading
from featviz import ui
from featviz.recipes.deepdream import DeepDream
from featviz.runtime.estimate import expected_run
from featviz.runtime.stream import check
from featviz.ui import server

calls, done = [], threading.Event()

def launch(demo, then, **_):
    before = set(sys.modules)
    for layer in ("vgg19/relu4_4", "efficientnet_lite0/block9"):
        check(DeepDream(layer=layer), ["image"])
        expected_run(DeepDream(layer=layer), {"image": (640, 480)})
    imported = sorted(set(sys.modules) - before)
    server.warm_up = lambda device: calls.append("loaded")
    server.count_runs = lambda recipes, device: (calls.extend(recipe.name for recipe in recipes), done.set())
    then()
    done.wait(60)
    print(json.dumps([imported, calls]))

ui.launch = launch
server.serve(None, server.parse([]))
"""


def test_the_first_click_imports_nothing_and_what_others_need_is_prepared_meanwhile():
    """Two things are slow the first time: counting a network, for which torch imports its compiler, and counting all layers."""
    command = [sys.executable, "-c", SERVED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(done.stdout) == [[], ["loaded", *TABS]]
