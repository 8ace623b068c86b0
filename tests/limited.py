"""A child process that may take only so much memory, by a limit of the system: what a program in it prints."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PREAMBLE = """
import json, resource, sys
sys.path[:0] = {path}
import torch
torch.set_num_threads(1)

def allow(megabytes):
    \"\"\"Address space beyond what is mapped by now. Memory that was touched before is counted already.\"\"\"
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    limit = int(status["VmSize"].split()[0]) * 1024 + megabytes * 10**6
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))

"""

ONE_THREAD_OFFLINE = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

BLOCKS_OF_THEIR_OWN = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""Map each block of over 1 MB by itself. In the heap of glibc freed blocks stay mapped, and a limit of the address space counts
them: whether the next block fits would be chance."""


def printed(program: str) -> Any:
    """The JSON on the last line that a program prints. It calls `allow(megabytes)` once all it needs is loaded."""
    path = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]
    child = subprocess.run(
        [sys.executable, "-c", PREAMBLE.format(path=path) + program],
        env=os.environ | ONE_THREAD_OFFLINE | BLOCKS_OF_THEIR_OWN, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout.splitlines()[-1])
