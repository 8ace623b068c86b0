"""`python -m benchmarks` answers all questions, `python -m benchmarks users step_rate` these two. RESULTS.md keeps the rest."""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")

QUESTIONS = ("step_rate", "textbook", "feed_forward", "page", "starting", "growth", "users")
"""Files of this folder, each with a docstring that is the question and a generator `rows()`."""

SLOW = ("style_transfer",)
"""Left out unless they are asked for by name: half an hour and more."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "questions", nargs="*", metavar="question", help=f"any of {', '.join(QUESTIONS + SLOW)} (default: all quick)"
    )
    chosen = parser.parse_args().questions or QUESTIONS
    if unknown := set(chosen) - {*QUESTIONS, *SLOW}:
        parser.error(f"there is no question {', '.join(unknown)}; there are {', '.join(QUESTIONS + SLOW)}")
    for question in chosen:
        start = time.monotonic()
        print(f"{question} …", file=sys.stderr)
        # Each in a process of its own: one that dies leaves the others their answers, and memory is its own.
        answered = subprocess.run(
            [sys.executable, "-m", "benchmarks.answer", question], stdout=subprocess.PIPE, text=True, check=False
        )
        if answered.returncode:
            sys.exit(f"{question} failed; what was answered before is in {RESULTS}.")
        print(answered.stdout, f"({time.monotonic() - start:.0f} s)", sep="\n", file=sys.stderr)
        RESULTS.write_text(replaced(RESULTS.read_text(encoding="utf-8"), question, answered.stdout), encoding="utf-8")


def replaced(text: str, question: str, answer: str) -> str:
    """RESULTS.md with another answer between the marks of a question."""
    marks = f"<!-- {question} -->\n", "<!-- end -->"
    made, count = re.subn("(?s)(?<={})(.*?)(?={})".format(*marks), lambda _: f"{answer.strip()}\n", text, count=1)
    if not count:
        raise SystemExit(f"There is no place for '{question}' in {RESULTS}.")
    return made


if __name__ == "__main__":
    main()
