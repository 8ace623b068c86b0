"""A file of the Hugging Face Hub: out of its cache without a request, or downloaded once, however many wait for it.

The only file that knows huggingface_hub, which is bounded here: by itself it retries for up to a minute before it says
that something is wrong, and takes bytes as they come without comparing them with their hash.
"""

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils._runtime import is_xet_available
from huggingface_hub.utils._xet import abort_xet_session  # Nothing public ends a Xet download that hangs.

from featviz.errors import WeightsError

PATIENCE = 12
"""Seconds without a byte after which a download counts as stalled."""

ANSWER = 8
"""Seconds that the Hub has to say what file it has."""

GLANCE = 0.25
"""Seconds between two looks at a download."""

CHUNK = 1 << 18
"""Bytes between two signs of progress. The default of huggingface_hub, 10 MB, makes a slow connection look stalled."""


@dataclass(frozen=True)
class DownloadProgress:
    """How far a download is."""

    repo: str
    done: int
    """Bytes."""
    total: int | None
    """Bytes, None as long as nobody knows."""
    seconds_left: float | None
    """At the speed so far, None as long as there is none."""

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return min(self.done / self.total, 1) if self.total else 0

    def __str__(self) -> str:
        how_far = f"{self.done / 1e6:.0f} of {self.total / 1e6:.0f} MB" if self.total else "asking for it"
        left = f" · about {max(1, round(self.seconds_left))} s left" if self.seconds_left is not None else ""
        return f"Downloading {self.repo} · {how_far}{left}"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository, and what is known of it."""

    repo: str
    name: str
    revision: str
    sha256: str | None
    """What its bytes have to add up to; None to take the Hub's word for it."""

    def __str__(self) -> str:
        return f"'{self.name}' of {self.repo}"


def limitation() -> str:
    """What keeps downloads from this machine, as far as can be told without asking anybody; "" where nothing does."""
    cache = Path(constants.HF_HUB_CACHE)
    if constants.HF_HUB_OFFLINE:
        return "Downloads are off (HF_HUB_OFFLINE): of the Hub's networks, those work that are here already."
    if not os.access(next(folder for folder in (cache, *cache.absolute().parents) if folder.exists()), os.W_OK):
        return f"Downloads cannot be kept in {cache}, so of the Hub's networks those work that are here already; set HF_HOME."
    return ""


def is_here(file: HubFile) -> bool:
    """Whether the file is in the cache, as far as can be told without reading it."""
    return isinstance(try_to_load_from_cache(file.repo, file.name, revision=file.revision), str)


def cached(file: HubFile) -> Path | None:
    """Where the file is on this machine, without asking anybody. One that is damaged is thrown away."""
    pointer = try_to_load_from_cache(file.repo, file.name, revision=file.revision)
    if not isinstance(pointer, str):
        return None
    path = Path(pointer)
    found, promised = _sha256(path), _as_sha256(path.resolve().name)  # The cache names a file after its ETag.
    if found == (file.sha256 or promised or found):
        return path
    if found != promised:
        _forget(path)  # An intact file that is not the one wanted may be wanted by others.
    return None


def fetch(file: HubFile) -> Generator[DownloadProgress, None, Path]:
    """Yield how far the download is until the file is here; return its path. Yields nothing if it is in the cache.

    All who ask for one file wait for one download. One that stalls is begun anew, once and without Xet; a plain download that
    has got some bytes is not, since huggingface_hub resumes it. If it stays stalled, the next call begins anew.

    Closing the generator ends the waiting, not the download.

    Raises:
        WeightsError: the file cannot be had, or nothing has come for twice `PATIENCE` seconds.
    """
    if path := cached(file):
        return path
    download, begun_anew = _join(file), False
    while True:
        download.join(GLANCE)
        if not download.is_alive():
            break
        arriving = download.look()
        if not download.stalled:
            yield arriving
        elif begun_anew or download.resumes:
            raise WeightsError(
                f"{file} stopped arriving from {constants.ENDPOINT}, {download.how_far()}; check the connection, and try again "
                "in a minute."
            )
        else:
            download, begun_anew = _join(file), True
    if download.path is None:
        raise WeightsError(download.failure)
    return download.path


def _join(file: HubFile) -> "_Download":
    """The download of a file that is under way, or a new one where there is none or it has stalled."""
    with _starting:
        download = _downloads.get(file)
        if download is not None and download.stalled:
            download.abandon()
            download = None
        if download is None:
            download = _downloads[file] = _Download(file)
            download.start()
        return download


class _Download(threading.Thread):
    """One download, whoever waits for it. A daemon: nobody has to wait for it to leave the program."""

    def __init__(self, file: HubFile):
        super().__init__(daemon=True)
        self.file = file
        self.path: Path | None = None
        self.failure: str | None = None
        self.done = 0
        self.total: int | None = None
        self._began: tuple[float, int] | None = None  # When the first bytes were there, and how many.
        self._heard = time.monotonic()
        self._incomplete: Callable[[], Iterator[Path]] = lambda: iter(())
        self._lock: Path | None = None  # What huggingface_hub holds meanwhile.
        self._by_xet = False
        self._abandoned = False

    @property
    def silence(self) -> float:
        """Seconds since the last byte."""
        return time.monotonic() - self._heard

    @property
    def stalled(self) -> bool:
        """Whether nothing has come for `PATIENCE` seconds."""
        return self.silence > PATIENCE

    @property
    def resumes(self) -> bool:
        """Whether huggingface_hub takes it up where it broke off: plain downloads, not those by Xet."""
        return self.done > 0 and not self._by_xet

    def abandon(self) -> None:
        """Let another download of the same file begin. This one ends as soon as it can, and is waited for by nobody."""
        self._abandoned = True
        if self._by_xet:
            constants.HF_HUB_DISABLE_XET = True  # Its only switch. Where one file hangs, so do the next ones.
            abort_xet_session()
        if self._lock:
            with suppress(OSError):  # A download that hangs would hold it forever. Windows keeps an open file.
                self._lock.unlink()

    def run(self) -> None:
        try:
            self.path = self._fetched()
        except WeightsError as error:
            self.failure = str(error)
        except Exception as error:
            self.failure = _sentence(error, self.file)
        finally:
            with _starting:
                if _downloads.get(self.file) is self:
                    del _downloads[self.file]

    def _fetched(self) -> Path:
        constants.DOWNLOAD_CHUNK_SIZE = min(constants.DOWNLOAD_CHUNK_SIZE, CHUNK)
        file = self.file
        at: dict[str, Any] = {"repo_id": file.repo, "filename": file.name, "revision": file.revision}
        found = get_hf_file_metadata(hf_hub_url(**at), timeout=ANSWER)  # Not retried, unlike in the download itself.
        if found.commit_hash is None or found.etag is None:
            raise errors.FileMetadataError
        there = _as_sha256(found.etag)
        if file.sha256 and there and there != file.sha256:
            raise WeightsError(
                f"{file} has sha256 {there[:12]}… on the Hub instead of {file.sha256[:12]}…, so it is not the file that featviz "
                "knows; name a revision in FEATVIZ_REVISIONS to take it as it is."
            )
        cache, folder = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=file.repo, repo_type="model")
        self.total, self._incomplete = found.size, lambda: (cache / folder / "blobs").glob(f"{found.etag}.*.incomplete")
        self._lock = cache / ".locks" / folder / f"{found.etag}.lock"
        self._by_xet = found.xet_file_data is not None and is_xet_available()
        meter: Any = partial(_Meter, self.arrived)  # Asked for is a class of tqdm's; this does what is called of one.
        path = Path(hf_hub_download(**at, etag_timeout=ANSWER, tqdm_class=meter))
        if (expected := file.sha256 or there) is not None and expected != _sha256(path):
            _forget(path)
            raise WeightsError(f"{file} arrived damaged: its sha256 is not {expected[:12]}…; nothing of it was kept, try again.")
        return path

    def arrived(self, done: int) -> None:
        """Note how many bytes are here. Raises WeightsError if nothing new has come for long, or if this is abandoned."""
        if self._abandoned:
            raise WeightsError(f"{self.file} was begun anew.")
        if done > self.done:
            self.done, self._heard = done, time.monotonic()
            self._began = self._began or (self._heard, done)
        elif self.silence > 5 * PATIENCE:
            raise WeightsError(f"{self.file} breaks off again and again, {self.how_far()}; try again later.")

    def look(self) -> DownloadProgress:
        """How far it is. Another process may be the one that downloads, which is seen by how its file grows."""
        for path in self._incomplete():
            with suppress(OSError):  # Complete by now, and renamed.
                if (size := path.stat().st_size) > self.done:
                    self.arrived(size)
        left = None
        if self._began and self.total and self.done > self._began[1]:
            since, first = self._began
            left = (self.total - self.done) * (time.monotonic() - since) / (self.done - first)
        return DownloadProgress(self.file.repo, self.done, self.total, left)

    def how_far(self) -> str:
        return f"after {self.done / 1e6:.0f} of {self.total / 1e6:.0f} MB" if self.total else "before the first byte"


class _Meter:
    """What huggingface_hub takes for a progress bar."""

    def __init__(self, arrived: Callable[[int], None], *, total: int | None = None, **_: Any):
        self._arrived, self.n, self.total = arrived, 0, total

    def __enter__(self) -> "_Meter":
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, n: int = 1) -> None:
        self.n += n
        self._arrived(self.n)

    def refresh(self) -> None: ...

    def close(self) -> None: ...

    def set_postfix_str(self, *_: Any, **__: Any) -> None: ...


_downloads: dict[HubFile, _Download] = {}
_starting = threading.Lock()

_MAY_NOT = "{hub} does not let us have {file} (error {status}); set HF_TOKEN to a token that may read it, and check HF_ENDPOINT."

_ANSWERED: dict[int, str] = {
    401: _MAY_NOT,
    403: _MAY_NOT,
    429: "{hub} has had too many requests from here; try again in a few minutes, or set HF_TOKEN, which may ask more often.",
}
"""The HTTP status of an answer → what is said of it."""

_SAID: tuple[tuple[type[Exception], str], ...] = (
    (
        errors.OfflineModeIsEnabled,
        "{file} is not on this machine, and HF_HUB_OFFLINE forbids to download it; unset it and try again.",
    ),
    (errors.GatedRepoError, "{file} is only for those who have accepted its terms at {page}; do so, and set HF_TOKEN."),
    (
        errors.RepositoryNotFoundError,
        "There is no {repo} at {hub}, or it is private; check HF_ENDPOINT, or set HF_TOKEN to a token that may read it.",
    ),
    (errors.RevisionNotFoundError, "{repo} has no revision '{revision}'; check FEATVIZ_REVISIONS."),
    (errors.RemoteEntryNotFoundError, "{repo} has no file '{name}' any more; name an earlier revision in FEATVIZ_REVISIONS."),
    (
        errors.FileMetadataError,
        "{hub} does not answer like the Hugging Face Hub; if this network asks for a log-in, open it in a browser, and check "
        "HF_ENDPOINT.",
    ),
    (errors.HfHubHTTPError, "{hub} answered with error {status} when asked for {file}; try again in a few minutes."),
    (httpx2.RemoteProtocolError, "{file} broke off on its way from {hub}; nothing of it was kept, try again."),
    (httpx2.TimeoutException, "{hub} does not answer when asked for {file}; check the connection, and try again in a minute."),
    (httpx2.HTTPError, "{hub} cannot be reached for {file}; check the network connection, the proxy, and HF_ENDPOINT."),
    (OSError, "{file} could not be kept in {cache} ({reason}); make room there, or set HF_HOME to another folder."),
    (Exception, "{file} could not be downloaded from {hub} ({reason}); try again in a few minutes."),
)
"""What can go wrong → what is said of it; the first that fits."""


def _sentence(error: BaseException, file: HubFile) -> str:
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__  # It says that the file is not here; the cause says why it could not be fetched.
    if type(error) is OSError and error.errno is None:
        error = httpx2.RemoteProtocolError(str(error))  # What huggingface_hub means by it: a body that ends too early.
    status = getattr(getattr(error, "response", None), "status_code", None)
    kind, said = next((kind, said) for kind, said in _SAID if isinstance(error, kind))
    if kind is errors.HfHubHTTPError and status in _ANSWERED:
        said = _ANSWERED[status]
    return said.format(
        file=file,
        repo=file.repo,
        name=file.name,
        revision=file.revision,
        hub=constants.ENDPOINT,
        page=f"{constants.ENDPOINT}/{file.repo}",
        cache=constants.HF_HUB_CACHE,
        status=status,
        reason=getattr(error, "strerror", None) or " ".join(str(error).split())[:80] or type(error).__name__,
    )


def _forget(pointer: Path) -> None:
    """Throw a file away: the link that the cache knows it by, and its bytes."""
    for path in (pointer.resolve(), pointer):
        with suppress(OSError):  # A cache that is shared may be read-only.
            path.unlink()


def _as_sha256(etag: str) -> str | None:
    """The ETag of a large file is the sha256 of its bytes; that of a small one says nothing about them."""
    return etag if re.fullmatch("[0-9a-f]{64}", etag) else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
