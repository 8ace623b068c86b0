"""`python -m benchmarks.answer step_rate`: the Markdown of one question, its rows as they are measured."""

import sys
from importlib import import_module

from benchmarks.measure import HEAD, machine


def main(question: str) -> None:
    module = import_module(f"benchmarks.{question}")
    head = getattr(module, "HEAD", HEAD)  # A question may have a table of its own.
    print(f"{module.__doc__.strip()}\n\n*{machine()}*\n\n{head}", flush=True)
    for row in module.rows():
        print(row, flush=True)
        print(row, file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
