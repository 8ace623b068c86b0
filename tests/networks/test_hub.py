"""Downloads, by the real client, from a server on loopback that speaks the Hub's protocol."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import unfinished
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.utils import WeakFileLock
from loopback_hub import COMMIT, LoopbackHub, as_file

from featviz.errors import WeightsError
from featviz.networks import hub
from featviz.networks.cache import result_of
from featviz.networks.hub import HubFile, fetch, is_here

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
    assert not is_here(FILE)
    assert result_of(fetch(FILE)).read_bytes() == CONTENT
    assert is_here(FILE)
    loopback.log.clear()
    assert list(fetch(FILE)) == []
    assert result_of(fetch(FILE)).read_bytes() == CONTENT
    assert loopback.log == []


def test_a_download_says_how_far_it_is(loopback):
    loopback.trouble = "slow"
    shown = list(fetch(FILE))
    halfway = [one for one in shown if 0 < one.share < 1]
    assert [one.done for one in shown] == sorted(one.done for one in shown)
    assert len({one.done for one in halfway}) > 2
    assert 0 < halfway[-1].seconds_left < 5
    done, total = halfway[-1].done / 1e6, len(CONTENT) / 1e6
    assert str(halfway[-1]) == f"Downloading org/model · {done:.0f} of {total:.0f} MB · about 1 s left"


def test_whoever_comes_second_waits_for_the_same_download(loopback):
    loopback.trouble = "slow"
    found = []
    threads = [threading.Thread(target=lambda: found.append(result_of(fetch(FILE)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert loopback.downloads == 1


def test_whoever_leaves_does_not_take_the_download_with_him(loopback):
    loopback.trouble = "slow"
    waiting = fetch(FILE)
    next(waiting)
    waiting.close()
    assert result_of(fetch(FILE)).read_bytes() == CONTENT
    assert loopback.downloads == 1


def test_a_revision_can_be_pinned_and_a_file_preloaded_by_others(loopback):
    pinned = HubFile(FILE.repo, FILE.name, COMMIT, FILE.sha256)
    hf_hub_download(FILE.repo, FILE.name, revision=COMMIT)
    loopback.log.clear()
    assert result_of(fetch(pinned)).read_bytes() == CONTENT
    assert loopback.log == []


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("gated", r"'model\.safetensors' of org/model is only for those who have accepted its terms at .*/org/model; do so"),
        (401, r"http\S+ does not let us have .*org/model \(error 401\); set HF_TOKEN to a token that may read it"),
        (500, r"http\S+ answered with error 500 when asked for 'model\.safetensors' of org/model; try again in a few minutes"),
        (503, r"answered with error 503"),
        (429, r"http\S+ has had too many requests from here; try again in a few minutes, or set HF_TOKEN"),
        ("captive", r"http\S+ does not answer like the Hugging Face Hub; if this network asks for a log-in, open it"),
        ("truncated", r"stopped arriving from http\S+, after [01] of 3 MB; check the connection, and try again in a minute"),
        ("corrupted", r"arrived damaged: its sha256 is not [0-9a-f]{12}…; nothing of it was kept, try again"),
        ("stalled", r"stopped arriving from http\S+, after \d of 3 MB; check the connection, and try again in a minute"),
    ],
)
def test_every_trouble_is_one_sentence_and_leaves_nothing_behind(trouble, said, loopback, tmp_path, monkeypatch):
    loopback.trouble = trouble
    if trouble in ("truncated", "stalled"):  # What is waited for.
        monkeypatch.setattr(hub, "PATIENCE", 1.5)
    with pytest.raises(WeightsError, match=said):
        result_of(fetch(FILE))
    loopback.trouble = None
    loopback.go_on.set()
    for download in unfinished():  # It may have gone on meanwhile.
        download.join()
    assert all(path.read_bytes() == CONTENT for path in kept(tmp_path))
    assert result_of(fetch(FILE)).read_bytes() == CONTENT


def test_what_is_not_there_is_named(loopback):
    for wanted, said in (
        (HubFile("org/other", FILE.name, "main", None), "There is no org/other at"),
        (HubFile(FILE.repo, FILE.name, "no-such", None), "org/model has no revision 'no-such'; check FEATVIZ_REVISIONS"),
        (HubFile(FILE.repo, "other.bin", "main", None), r"org/model has no file 'other\.bin' any more"),
    ):
        with pytest.raises(WeightsError, match=said):
            result_of(fetch(wanted))


def test_a_hub_that_refuses_or_must_not_be_asked_is_named(loopback, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(WeightsError, match="is not on this machine, and HF_HUB_OFFLINE forbids to download it; unset it"):
            result_of(fetch(FILE))
    assert loopback.log == []
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(WeightsError, match=r"http://127\.0\.0\.1:9 cannot be reached for .*; check the network connection"):
        result_of(fetch(FILE))


def test_a_folder_without_room_is_named(loopback, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub, "hf_hub_download", full)
    with pytest.raises(
        WeightsError, match=r"could not be kept in .* \(No space left on device\); make room there, or set HF_HOME"
    ):
        result_of(fetch(FILE))


def test_a_download_that_breaks_off_once_is_taken_up_where_it_was(loopback):
    loopback.trouble = "resumable"
    assert result_of(fetch(FILE)).read_bytes() == CONTENT
    first, second = (entry.partition("bytes=")[2] for entry in loopback.log if entry.startswith("GET"))
    assert first == ""
    assert len(CONTENT) / 2 - constants.DOWNLOAD_CHUNK_SIZE < int(second[:-1]) <= len(CONTENT) / 2


def test_another_file_than_the_one_known_is_refused_before_it_is_downloaded(loopback):
    with pytest.raises(WeightsError, match=f"has sha256 {FILE.sha256[:12]}… on the Hub instead of {'0' * 12}…, so it is not"):
        result_of(fetch(HubFile(FILE.repo, FILE.name, "main", "0" * 64)))
    assert loopback.downloads == 0


@pytest.mark.parametrize("sha256", [FILE.sha256, None])
def test_a_file_that_was_damaged_in_the_cache_is_downloaded_again(sha256, loopback):
    wanted = HubFile(FILE.repo, FILE.name, "main", sha256)
    path = result_of(fetch(wanted))
    path.resolve().write_bytes(CONTENT[:-5])
    assert result_of(fetch(wanted)).read_bytes() == CONTENT
    assert loopback.downloads == 2


ALONE = """
import json, sys
from featviz.networks.hub import HubFile, fetch
from featviz.networks.cache import drained
print(json.dumps(str(drained(fetch(HubFile(*json.loads(sys.argv[1])))))))
"""


def test_two_processes_share_a_cache_and_one_download_as_their_environment_says(loopback, tmp_path):
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


def test_a_download_of_another_process_is_seen_to_grow(tmp_path):
    part, download = tmp_path / "etag.1234.incomplete", hub._Download(FILE)
    part.write_bytes(bytes(40))
    download.total, download._incomplete = 100, lambda: iter([part])
    assert download.look().share == 0.4
    part.write_bytes(bytes(70))
    assert download.look().share == 0.7
    part.unlink()
    assert download.look().share == 0.7


@pytest.fixture
def hanging(monkeypatch) -> Iterator[list[str]]:
    """The first download never returns, and holds what the real one would: huggingface_hub's lock. What was asked for."""
    asked, over = [], threading.Event()

    def download(repo_id: str, filename: str, **options: object) -> str:
        asked.append(filename)
        if len(asked) == 1:
            lock = Path(constants.HF_HUB_CACHE, ".locks", "models--org--model", f"{FILE.sha256}.lock")
            lock.parent.mkdir(parents=True)
            with WeakFileLock(lock):
                over.wait(30)
        return hf_hub_download(repo_id, filename, **options)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "PATIENCE", 0.5)
    yield asked
    over.set()


def test_a_download_that_never_returns_is_begun_anew_for_all_who_wait(loopback, hanging):
    found = []
    threads = [threading.Thread(target=lambda: found.append(result_of(fetch(FILE)).read_bytes())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 3
    assert len(hanging) == 2


def test_a_download_that_hangs_twice_is_said_and_the_next_caller_begins_anew(loopback, monkeypatch):
    monkeypatch.setattr(hub, "PATIENCE", 0.5)
    loopback.trouble = "held"
    with pytest.raises(WeightsError, match=r"stopped arriving from .*, after 0 of 3 MB; check the connection"):
        result_of(fetch(FILE))
    assert loopback.downloads == 2
    loopback.trouble = None
    assert result_of(fetch(FILE)).read_bytes() == CONTENT
    assert loopback.downloads == 3


def test_where_xet_hangs_the_file_comes_without_it(loopback, monkeypatch):
    """The real hf_xet, of which a server asks for patience without end."""
    monkeypatch.setattr(hub, "PATIENCE", 1.5)
    loopback.trouble = "xet"
    assert result_of(fetch(FILE)).read_bytes() == CONTENT
    assert [entry for entry in loopback.log if "/xet/" in entry], "Xet was not asked"
    assert constants.HF_HUB_DISABLE_XET
    for download in unfinished():  # Its thread has ended, though the server never answered.
        download.join(5)
    assert not unfinished()


def test_the_limits_of_patience():
    """An answer may take its time, and whoever waits is told within half a minute."""
    assert hub.ANSWER < hub.PATIENCE
    assert 2 * (hub.PATIENCE + hub.GLANCE) < 30
