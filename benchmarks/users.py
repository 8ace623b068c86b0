"""### What happens when many come at once?

So many clients of the API ask for the same DeepDream within the same moment, each from its own connection. A fair share is the
time of one user times the number of users: who is done later than that has waited for others unfairly.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from gradio_client import Client, handle_file

from benchmarks.measure import EXAMPLES, Row, memory_of
from benchmarks.serving import served

USERS = (1, 2, 4, 8, 16)

ASKED = {"size": 400}
"""Beside the defaults."""


@dataclass
class Visit:
    """Seconds from the moment all asked."""

    first: float = 0.0
    done: float = 0.0


def visit(address: str, start: threading.Barrier, visit: Visit) -> None:
    client = Client(address, verbose=False, analytics_enabled=False, download_files=False)
    start.wait()
    began = time.perf_counter()
    for _ in client.submit(image=handle_file(EXAMPLES / "mountain.jpg"), **ASKED, api_name="/deepdream"):
        visit.first = visit.first or time.perf_counter() - began
    visit.done = time.perf_counter() - began
    client.close()


def crowd(address: str, users: int) -> list[Visit]:
    start, visits = threading.Barrier(users), [Visit() for _ in range(users)]
    threads = [threading.Thread(target=visit, args=(address, start, one)) for one in visits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not all(one.first and one.done for one in visits):
        raise SystemExit(f"Of {users} users, {sum(not one.first for one in visits)} never saw a preview.")
    return visits


def rows() -> Iterator[Row]:
    with served() as server:
        crowd(server.address, 1)  # With what is done once.
        alone = min(one.done for _ in range(2) for one in crowd(server.address, 1))
        for users in USERS:
            visits = crowd(server.address, users)
            done = [one.done for one in visits]
            yield Row(
                f"{users} at once: first preview",
                "s",
                [one.first for one in visits],
                f"last in line: {max(one.first for one in visits):.1f} s",
            )
            yield Row("result", "s", done, f"last: {max(done):.1f} s, first: {min(done):.1f} s")
            yield Row(
                "done, of the fair share",
                "",
                [one / (alone * users) for one in done],
                f"worst: {max(done) / (alone * users):.2f}",
            )
            yield Row("throughput", "runs a minute", [60 * users / max(done)])
            yield Row("memory of the server so far, at the peak", "GB", [memory_of(server.pid) / 1e9])
