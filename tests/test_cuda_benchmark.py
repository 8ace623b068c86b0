"""The benchmark of a card runs from end to end on a CPU, and what it cannot measure costs only that answer."""

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from benchmarks.cuda import __main__ as cuda
from benchmarks.cuda.plan import FULL, QUESTIONS, TOTAL
from benchmarks.cuda.waiting import Reads
from featviz.networks.table import BUNDLED
from featviz.optimise.gradients import soften

ROOT = Path(__file__).parent.parent

NOT_NEEDED = ("gradio", "gradio_client", "av", "pillow_heif", "httpx", "httpx2", "huggingface_hub", "tqdm", "timm", "mcp", "pytest",
              "hypothesis", "playwright")  # fmt: skip
"""What is installed here and not beside a card."""

HIDE = f"import sys; sys.modules.update(dict.fromkeys({NOT_NEEDED}))"
"""Python's own way of saying that a module cannot be imported."""


@pytest.mark.parametrize(
    "questions", [("waiting", "precision", "memory"), pytest.param(tuple(QUESTIONS), marks=pytest.mark.whole)]
)
def test_questions_are_answered_on_a_cpu_with_the_library_s_needs_alone(questions, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.cuda", *questions, "--device=cpu", "--tiny", f"--out={tmp_path / 'CPU.md'}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    messages = [json.loads(line) for line in (tmp_path / "CPU.jsonl").read_text().splitlines()]
    assert [message["done"] for message in messages if "done" in message] == [*questions], done.stderr[-2000:]
    rows = [message for message in messages if "case" in message]
    assert {row["question"] for row in rows} == {*questions}
    refused = [row for row in rows if None in row["values"]]
    assert {row["question"] for row in refused} == {"memory"}, refused
    assert all(re.match("LimitError|InputError", row["note"]) for row in refused)
    recovered = [row["values"] for row in rows if row["case"].endswith("afterwards")]
    assert recovered == [[0.0]] * len(recovered) != []
    tables = (tmp_path / "CPU.md").read_text()
    assert re.findall(r"^### .*\?$", tables, re.MULTILINE) == [
        import_module(f"benchmarks.cuda.{name}").__doc__.splitlines()[0] for name in questions
    ]
    assert all(f"| {row['case']} |" in tables for row in rows)


def test_the_whole_fits_into_seven_minutes_and_takes_every_bundled_network():
    assert sum(QUESTIONS.values()) < TOTAL < 420
    assert FULL.networks == tuple(BUNDLED)


SCRIPT = """
import json, sys, time
for name in sys.argv[1:]:
    print(json.dumps({"question": name, "title": f"### {name}?"}), flush=True)
    print(json.dumps({"case": name, "unit": "s", "values": [1.0], "note": ""}), flush=True)
    if name == "waiting":
        time.sleep(60)
    if name == "precision":
        sys.exit(3)
    print(json.dumps({"done": name}), flush=True)
"""


def test_a_question_that_hangs_or_ends_its_process_costs_only_itself(tmp_path, monkeypatch):
    monkeypatch.setitem(QUESTIONS, "waiting", 0.2)
    names = ["correctness", "waiting", "precision", "rate"]
    with cuda.Report(tmp_path / "out.md") as report:
        cuda.answer_all([sys.executable, "-c", SCRIPT], names, report)
    messages = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [message["question"] for message in messages if "title" in message] == names
    assert [message["done"] for message in messages if "done" in message] == ["correctness", "rate"]
    failures = {message["question"]: message["case"] for message in messages if message.get("values") == [None]}
    assert failures == {"waiting": "Ended by force, since the time is up.", "precision": "The process ended."}


def test_a_wait_is_found_with_the_line_that_waits():
    with Reads(torch.device("cpu")) as reads:
        soften(torch.ones(1, 3, 8, 8), 0)
    (line,) = reads.lines
    assert line.startswith("featviz/optimise/gradients.py:")
