"""Answers questions about a device, one JSON line for each title and row. `python -m benchmarks.cuda` starts this and writes the files."""

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch

from benchmarks.cuda.bench import Bench, failed, machine
from benchmarks.cuda.plan import PLANS, QUESTIONS
from benchmarks.measure import Row


def main(device: str, plan: str, *questions: str) -> None:
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # Compilers print, too.

        def say(message: Mapping[str, Any]) -> None:
            print(json.dumps(message), file=out, flush=True)

        bench = Bench(torch.device("cuda:0" if device == "cuda" else device), PLANS[plan])
        say({"machine": machine(bench)})
        for question in questions:
            module = import_module(f"benchmarks.cuda.{question}")
            say({"question": question, "title": module.__doc__})
            for row in in_time(module.rows(bench), bench.plan.pace * QUESTIONS[question]):
                say(fields(row))
            # A card that has met an illegal access answers nothing more to this process, and the next one begins anew.
            bench.wait()
            bench.free()
            say({"done": question})


def in_time(rows: Any, most: float) -> Any:
    """Rows until they have taken `most` seconds, and one that says so; also one for an error that ends them."""
    end = time.monotonic() + most
    try:
        for row in rows:
            yield row
            if time.monotonic() > end:
                yield Row(f"Time is up after {most:.0f} s.", "", [math.nan], "what follows is left out")
                return
    except Exception as error:
        yield failed("The rest", error)


def fields(row: Row) -> dict[str, Any]:
    """A row as JSON has it, in which there is no NaN."""
    values = [value if math.isfinite(value) else None for value in map(float, row.values)]
    return {"case": row.case, "unit": row.unit, "values": values, "note": row.note}


if __name__ == "__main__":
    main(*sys.argv[1:])
