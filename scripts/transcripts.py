"""Transcripts of refusals: Python lines and commands, each with the sentence that a user reads.

In `tests/transcripts/`, a line that begins with `>>> ` or `$ ` is run, and the lines below it are what it gives. After a change of a
sentence: `python -m scripts.transcripts`, then read the difference before it is committed.
"""

import io
import os
import shlex
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from PIL import Image

from featviz import cli
from featviz.media.saving import NOTE, save
from featviz.media.video import Video

FOLDER = Path(__file__).parents[1] / "tests" / "transcripts"

TEXTS = {
    "text.png": "not a picture",
    "bad.mp4": "no video",
    "broken.json": "{",
    "list.json": "[1]",
    "style.json": '{"recipe": "style_transfer"}',
}


def prepare() -> None:
    """Fill the working directory with the files that the commands name."""
    for name in ("in", "empty", "done", "folder.png"):
        Path(name).mkdir()
    for name, text in TEXTS.items():
        Path(name).write_text(text, encoding="utf-8")
    picture = Image.linear_gradient("L").resize((90, 60)).convert("RGB")
    for name in ("image", "content", "style", "in/a"):
        picture.save(f"{name}.png")
    picture.info[NOTE] = '{"recipe": "deepdream", "fields": {}}'
    save(picture, "made.png")
    with Video("clip.mp4", 10) as video:
        video.write(picture)


def replay(text: str) -> str:
    """Return a transcript with what its lines give today. The working directory has the files of `prepare`.

    A command that ends with another exit code than 2, or changes a file, says so.
    """
    lines, names, files = [], {}, _files()
    for line in text.splitlines():
        prompt, _, code = line.partition(" ")
        if prompt in (">>>", "$"):
            lines += [line, *(_python(code, names) if prompt == ">>>" else _command(code))]
            if files != (files := _files()):
                lines.append("[files were changed]")
        elif not line or line.startswith("#"):
            lines.append(line)
    return "\n".join(lines) + "\n"


def _files() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path().rglob("*")}


def _python(code: str, names: dict[str, object]) -> list[str]:
    with redirect_stdout(io.StringIO()) as out:
        try:
            exec(compile(code, "transcript", "single"), names)
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
    return out.getvalue().splitlines()


def _command(typed: str) -> list[str]:
    program, *arguments = shlex.split(typed)
    before, sys.argv = sys.argv, [program]
    with redirect_stdout(io.StringIO()) as said, redirect_stderr(said):
        code = cli.main(arguments)
    sys.argv = before
    return [*said.getvalue().splitlines(), *([f"[exit code {code}]"] if code != cli.BAD_INPUT else [])]


if __name__ == "__main__":
    for path in FOLDER.glob("*.txt"):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            prepare()
            path.write_text(replay(path.read_text(encoding="utf-8")), encoding="utf-8")
