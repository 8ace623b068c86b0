"""Importing featviz, or any module of it, only defines names; on Windows too."""

import json
import os
import subprocess
import sys
from pathlib import Path

from featviz import __version__
from featviz.limits import LIMITS

ROOT = Path(__file__).parent.parent

SCENE = """
import ast, importlib, json, os, signal, sys
from pathlib import Path

package = Path("featviz")
files = sorted(package.rglob("*.py"))
modules = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]
for path in files:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]:
                if name.partition(".")[0] != "featviz":
                    importlib.import_module(name)


class Recorder(type(os.environ)):
    def __getitem__(self, name):
        frame, depth = sys._getframe(1), 0
        while frame and frame.f_code.co_filename.startswith(("<frozen", os.path.dirname(os.__file__) + "/os.py")):
            frame = frame.f_back
        if frame and str(package.absolute()) in frame.f_code.co_filename:
            read.append(name)
        return super().__getitem__(name)


read = []
os.environ.__class__ = Recorder

# Remove what Windows lacks, after the other packages were imported: they support Windows by themselves.
absent = {
    os: ["fork", "forkpty", "register_at_fork", "getuid", "geteuid", "getloadavg", "sched_getaffinity", "statvfs", "sysconf"],
    signal: ["SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "alarm", "setitimer", "pthread_sigmask"],
}
for place, names in absent.items():
    for name in names:
        delattr(place, name)
sys.modules.update(dict.fromkeys(["fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "_posixshmem"]))
sys.platform = "win32"

before = {name: dict(vars(module)) for name, module in sys.modules.items() if module is not None}
for name in modules:
    importlib.import_module(name)
changed = [
    f"{name}.{attribute}"
    for name, attributes in before.items()
    for attribute, value in attributes.items()
    if "main__" not in name and sys.modules.get(name) and vars(sys.modules[name]).get(attribute, value) is not value
]
assert len(modules) > 40 and len(before) > 1000
print(json.dumps({"read": read, "changed": changed}))
"""


MISTYPED = {limit.variable: "abc" for limit in LIMITS}


def python(*arguments: str) -> str:
    """Return the last line that a Python process prints, with every limit set to an invalid value."""
    command, environment = [sys.executable, *arguments], os.environ | MISTYPED
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


def test_importing_only_defines_names_on_windows_as_well():
    """No environment variable is read, no attribute of another package is changed, and nothing is used that Windows lacks."""
    assert json.loads(python("-c", SCENE)) == {"read": [], "changed": []}


def test_an_invalid_limit_does_not_affect_commands_that_do_not_use_it():
    assert python("-m", "featviz", "--version") == f"featviz {__version__}"
