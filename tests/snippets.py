"""Find and run the snippets of the documents."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def snippets(document: str, language: str) -> list[str]:
    """Return the code blocks of a language in a document, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run(command: list[str], folder: Path, package: Path = ROOT) -> subprocess.CompletedProcess:
    """Run a command as if typed in the repository's folder in its environment, but with `folder` as the working directory.

    `package` is the folder that featviz is imported from: the repository or a copy.
    """
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(ROOT / "examples")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    quiet = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1"}
    environment = {**os.environ, **quiet, "PATH": path, "PYTHONPATH": str(package), "TMPDIR": str(folder)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result
