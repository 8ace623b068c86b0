"""Downloads, by the real client, from a server on loopback that speaks the Hub's protocol."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import unfinished
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.utils import WeakFileLock
from loopback_hub import COMMIT, LoopbackHub, as_file
from standins import together

from featviz.errors import WeightsError
from featviz.networks import hub
from featviz.networks.cache import return_value
from featviz.networks.hub import HubFile, fetch, is_cached

CONTENT = as_file("tiny", torch.nn.Conv2d(8, 512, 3)) * 20
FILE = HubFile("org/model", "model.safetensors", "main", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def loopback(hub_on_loopback: LoopbackHub) -> LoopbackHub:
    """The Hub on loopback with one file."""
    hub_on_loopback.files[FILE.repo, FILE.name] = CONTENT
    return hub_on_loopback


def kept(folder: Path) -> list[Path]:
    """What a cache has of the file, finished or not."""
    return [path for path in folder.rglob("*") if path.parent.name == "blobs" or path.name == FILE.name]


def test_a_file_is_downloaded_once_and_then_read_without_any_request(loopback, tmp_path):
    assert not is_cached(FILE)
    assert return_value(fetch(FILE)).read_bytes() == CONTENT
    assert is_cached(FILE)
    loopback.log.clear()
    assert list(fetch(FILE)) == []
    assert return_value(fetch(FILE)).read_bytes() == CONTENT
    assert loopback.log == []


def test_a_download_yields_its_progress(loopback):
    loopback.trouble = "slow"
    reports = list(fetch(FILE))
    halfway = [report for report in reports if 0 < report.share < 1]
    assert [report.done for report in reports] == sorted(report.done for report in reports)
    assert len({report.done for report in halfway}) > 2
    assert 0 < halfway[-1].seconds_left < 5
    done, total = halfway[-1].done / 1e6, len(CONTENT) / 1e6
    assert str(halfway[-1]) == f"Downloading org/model · {done:.0f} of {total:.0f} MB · about 1 s left"


def test_concurrent_callers_share_one_download(loopback):
    loopback.trouble = "slow"
    assert len(set(together(*[lambda: return_value(fetch(FILE))] * 3))) == 1
    assert loopback.downloads == 1


def test_closing_a_generator_does_not_stop_the_download(loopback):
    loopback.trouble = "slow"
    waiting = fetch(FILE)
    next(waiting)
    waiting.close()
    assert return_value(fetch(FILE)).read_bytes() == CONTENT
    assert loopback.downloads == 1


def test_a_revision_can_be_pinned_and_a_file_preloaded_by_others(loopback):
    pinned = HubFile(FILE.repo, FILE.name, COMMIT, FILE.sha256)
    hf_hub_download(FILE.repo, FILE.name, revision=COMMIT)
    loopback.log.clear()
    assert return_value(fetch(pinned)).read_bytes() == CONTENT
    assert loopback.log == []


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("gated", r"'model\.safetensors' of org/model requires that you accept its terms at .*/org/model; do so"),
        (401, r"http\S+ refuses access to .*org/model \(error 401\); set HF_TOKEN to a token that may read it"),
        (500, r"http\S+ answered with error 500 when asked for 'model\.safetensors' of org/model; try again in a few minutes"),
        (503, r"answered with error 503"),
        (429, r"http\S+ has had too many requests from here; try again in a few minutes, or set HF_TOKEN"),
        ("captive", r"http\S+ does not answer like the Hugging Face Hub; if this network asks for a log-in, open it"),
        (
            "truncated",
            r"The download of .* from http\S+ stalled after [01] of 3 MB; check the connection, and try again in a minute",
        ),
        ("corrupted", r"is damaged: its sha256 is not [0-9a-f]{12}…; it was deleted, try again"),
        ("stalled", r"The download of .* from http\S+ stalled after \d of 3 MB; check the connection, and try again in a minute"),
    ],
)
def test_every_failure_is_one_sentence_and_leaves_nothing_behind(trouble, message, loopback, tmp_path, monkeypatch):
    loopback.trouble = trouble
    if trouble in ("truncated", "stalled"):  # What is waited for.
        monkeypatch.setattr(hub, "STALL_SECONDS", 1.5)
    with pytest.raises(WeightsError, match=message):
        return_value(fetch(FILE))
    loopback.trouble = None
    loopback.go_on.set()
    for download in unfinished():  # It may have gone on meanwhile.
        download.join()
    assert all(path.read_bytes() == CONTENT for path in kept(tmp_path))
    assert return_value(fetch(FILE)).read_bytes() == CONTENT


def test_a_missing_repository_revision_or_file_is_named(loopback):
    for file, message in (
        (HubFile("org/other", FILE.name, "main", None), "There is no org/other at"),
        (HubFile(FILE.repo, FILE.name, "no-such", None), "org/model has no revision 'no-such'; check FEATVIZ_REVISIONS"),
        (HubFile(FILE.repo, "other.bin", "main", None), r"org/model has no file 'other\.bin' any more"),
    ):
        with pytest.raises(WeightsError, match=message):
            return_value(fetch(file))


def test_an_offline_or_unreachable_hub_is_named(loopback, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(WeightsError, match="is not on this machine, and HF_HUB_OFFLINE forbids downloading it; unset it"):
            return_value(fetch(FILE))
    assert loopback.log == []
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(WeightsError, match=r"http://127\.0\.0\.1:9 cannot be reached for .*; check the network connection"):
        return_value(fetch(FILE))


def test_a_full_disk_is_named(loopback, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub, "hf_hub_download", full)
    with pytest.raises(
        WeightsError, match=r"could not be saved in .* \(No space left on device\); make room there, or set HF_HOME"
    ):
        return_value(fetch(FILE))


def test_an_interrupted_download_is_resumed(loopback):
    loopback.trouble = "resumable"
    assert return_value(fetch(FILE)).read_bytes() == CONTENT
    first, second = (entry.partition("bytes=")[2] for entry in loopback.log if entry.startswith("GET"))
    assert first == ""
    assert len(CONTENT) / 2 - constants.DOWNLOAD_CHUNK_SIZE < int(second[:-1]) <= len(CONTENT) / 2


def test_a_file_with_another_sha256_is_refused_before_it_is_downloaded(loopback):
    with pytest.raises(WeightsError, match=f"has sha256 {FILE.sha256[:12]}… on the Hub instead of {'0' * 12}…, so it is not"):
        return_value(fetch(HubFile(FILE.repo, FILE.name, "main", "0" * 64)))
    assert loopback.downloads == 0


@pytest.mark.parametrize("sha256", [FILE.sha256, None], ids=["with its sha256", "without"])
def test_a_damaged_file_in_the_cache_is_downloaded_again(sha256, loopback):
    wanted = HubFile(FILE.repo, FILE.name, "main", sha256)
    path = return_value(fetch(wanted))
    path.resolve().write_bytes(CONTENT[:-5])
    assert return_value(fetch(wanted)).read_bytes() == CONTENT
    assert loopback.downloads == 2


ALONE = """
import json, sys
from featviz.networks.hub import HubFile, fetch
from featviz.networks.cache import return_value
print(json.dumps(str(return_value(fetch(HubFile(*json.loads(sys.argv[1])))))))
"""


def test_two_processes_share_a_cache_and_one_download(loopback, tmp_path):
    loopback.trouble = "held"
    settings = {"HF_ENDPOINT": loopback.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | settings
    command = [sys.executable, "-c", ALONE, json.dumps([FILE.repo, FILE.name, FILE.revision, FILE.sha256])]
    root = Path(__file__).parents[2]
    both = [subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    while sum(entry.startswith("HEAD") for entry in loopback.log) < 4:  # Each asks twice; by now both want it.
        time.sleep(0.05)
    loopback.go_on.set()
    results = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    (path,) = set(results)
    assert Path(path).is_relative_to(tmp_path / "home")
    assert Path(path).read_bytes() == CONTENT
    assert loopback.downloads == 1, loopback.log
    assert loopback.tokens == {"Bearer hf_secret"}


def first_download(monkeypatch: pytest.MonkeyPatch, behave: Callable[[], None]) -> list[str]:
    """Let the first download behave in some way before it begins. Returns the list of what is asked for."""
    asked = []

    def download(repo_id: str, filename: str, **options: object) -> str:
        asked.append(filename)
        if len(asked) == 1:
            behave()
        return hf_hub_download(repo_id, filename, **options)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "STALL_SECONDS", 2.0)  # The second one may not look stalled on a busy machine.
    return asked


def test_a_download_that_never_returns_is_restarted_for_all_callers(loopback, monkeypatch):
    """It holds what the real one would: huggingface_hub's lock."""
    over = threading.Event()

    def hang() -> None:
        lock = Path(constants.HF_HUB_CACHE, ".locks", "models--org--model", f"{FILE.sha256}.lock")
        lock.parent.mkdir(parents=True)
        with WeakFileLock(lock):
            over.wait(30)

    asked = first_download(monkeypatch, hang)
    assert together(*[lambda: return_value(fetch(FILE)).read_bytes()] * 3) == [CONTENT] * 3
    over.set()
    assert 2 <= len(asked) < 4  # Not one for each caller. On a busy machine, the second one may be slow as well.


def test_a_caller_goes_on_with_the_restarted_download_whatever_becomes_of_the_first(loopback, monkeypatch):
    """As when a Xet download is aborted: the first one ends with an error before this caller looks at it again."""
    aborted = threading.Event()

    def abort() -> None:
        aborted.wait(30)
        raise OSError("aborted")

    first_download(monkeypatch, abort)
    waiting = fetch(FILE)
    next(waiting)
    (first,) = unfinished()
    while not first.stalled:
        time.sleep(0.05)
    assert return_value(fetch(FILE)).read_bytes() == CONTENT
    aborted.set()
    first.join()
    assert return_value(waiting).read_bytes() == CONTENT
    assert loopback.downloads == 1


def test_a_download_that_hangs_twice_fails_and_the_next_caller_restarts_it(loopback, monkeypatch):
    monkeypatch.setattr(hub, "STALL_SECONDS", 0.5)
    loopback.trouble = "held"
    with pytest.raises(WeightsError, match=r"stalled after 0 of 3 MB; check the connection"):
        return_value(fetch(FILE))
    assert loopback.downloads == 2
    loopback.trouble = None
    assert return_value(fetch(FILE)).read_bytes() == CONTENT
    assert loopback.downloads == 3


def test_a_hanging_xet_download_is_restarted_without_xet(loopback, monkeypatch):
    """The real hf_xet, of which a server asks for patience without end."""
    monkeypatch.setattr(hub, "STALL_SECONDS", 1.5)
    loopback.trouble = "xet"
    assert return_value(fetch(FILE)).read_bytes() == CONTENT
    assert [entry for entry in loopback.log if "/xet/" in entry], "Xet was not asked"
    assert constants.HF_HUB_DISABLE_XET
    for download in unfinished():  # Its thread has ended, though the server never answered.
        download.join(5)
    assert not unfinished()
