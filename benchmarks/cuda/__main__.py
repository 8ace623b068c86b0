"""Answer everything about a CUDA card in under seven minutes, the most important first, each answer written as it comes.

Needs the library alone. Writes a file of tables (Markdown) and one of the same figures (JSON lines). Without a card the same plan
runs on the CPU at tiny sizes, which shows that the questions can be asked, and nothing else.
"""

import argparse
import json
import math
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cuda.plan import PLANS, QUESTIONS, TOTAL
from benchmarks.measure import HEAD, Row

START = 60.0
"""Seconds in which a process has to be ready for its first question."""

PATIENCE = 1.5
"""How many times its seconds a question may take before its process is ended by force."""


class Report:
    """Two files that grow by each message: tables for people, lines for programs."""

    def __init__(self, out: Path):
        out.parent.mkdir(parents=True, exist_ok=True)
        self._tables = out.open("w", encoding="utf-8")
        self._lines = out.with_suffix(".jsonl").open("w", encoding="utf-8")
        self._question = ""

    def add(self, message: Mapping[str, Any]) -> None:
        """Write a message, and have it on the disk."""
        text = ""
        if "machine" in message:
            text = f"\n*{message['machine']}*\n"
        elif "title" in message:
            self._question = message["question"]
            text = f"\n{message['title'].strip()}\n\n{HEAD}\n"
        elif "case" in message:
            values = [math.nan if value is None else value for value in message["values"]]
            text = f"{Row(message['case'], message['unit'], values, message['note'])}\n"
            message = {"question": self._question, **message}
        for file, line in ((self._tables, text), (self._lines, json.dumps(message) + "\n")):
            file.write(line)
            file.flush()

    def __enter__(self) -> "Report":
        return self

    def __exit__(self, *_: object) -> None:
        self._tables.close()
        self._lines.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="question", help=f"any of {', '.join(QUESTIONS)} (default: all)")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: the card, or the CPU where there is none")
    parser.add_argument("--tiny", action="store_true", help="at sizes for a test; always on where there is no card")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="default: benchmarks/CUDA.md, or benchmarks/CPU.md")
    options = parser.parse_args(arguments)
    if unknown := {*options.questions} - {*QUESTIONS}:
        parser.error(f"there is no question {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    device = options.device or best_device()
    out = options.out or Path(__file__).parent.with_name(f"{device.upper()}.md")
    chosen = [question for question in QUESTIONS if question in (options.questions or QUESTIONS)]
    plan = "tiny" if options.tiny or (not options.device and device == "cpu") else "full"
    with Report(out) as report:
        answer_all([sys.executable, "-m", "benchmarks.cuda.answer", device, plan], chosen, report, PLANS[plan].pace)
    print(f"{out} and {out.with_suffix('.jsonl')}", file=sys.stderr)


def best_device() -> str:
    import torch  # Here, since it takes seconds and this process has no other use for it.

    return "cuda" if torch.cuda.is_available() else "cpu"


def answer_all(command: Sequence[str], questions: Sequence[str], report: Report, pace: float = 1) -> None:
    """Answer questions in a process of its own, and in another one those that are left where a question has ended it."""
    end, left = time.monotonic() + pace * TOTAL, [*questions]
    while left and time.monotonic() < end:
        begun = answered(command, left, report, end, pace)
        left = left[max(1, begun) :]  # A process that does not start takes a question with it, so that this ends.
    if left:
        report.add({"unanswered": left})


def answered(command: Sequence[str], questions: Sequence[str], report: Report, end: float, pace: float) -> int:
    """How many questions a process has begun until it ended, or was ended since one took too long."""
    process = subprocess.Popen([*command, *questions], stdout=subprocess.PIPE, text=True, encoding="utf-8")
    assert process.stdout is not None
    output = process.stdout
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in output:
            lines.put(line)
        lines.put("")

    reader = threading.Thread(target=read)
    reader.start()
    begun, finished, due = 0, 0, time.monotonic() + pace * START
    reason = "The process ended."
    try:
        while line := lines.get(timeout=max(0.0, min(due, end) - time.monotonic())):
            message = json.loads(line)
            if "title" in message:
                begun, due = begun + 1, time.monotonic() + pace * PATIENCE * QUESTIONS[message["question"]]
                print(message["question"], file=sys.stderr)
            finished += "done" in message
            report.add(message)
    except queue.Empty:
        reason = "Ended by force, since the time is up."
    finally:
        process.kill()
        process.wait()
        reader.join()
        output.close()
    if finished < len(questions) and (begun > finished or not begun):
        report.add({"case": reason, "unit": "", "values": [None], "note": f"exit status {process.returncode}"})
    return begun


if __name__ == "__main__":
    main()
