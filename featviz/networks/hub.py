"""Files of the Hugging Face Hub: read from the cache without a request, or downloaded once for all callers.

Only this module uses huggingface_hub. That library (2.4) locks, retries and resumes. It does not compare a file with its sha256, does not
end a transfer that hangs (a Xet download waits without limit), and reports progress only by a bar. A thread around it does these
three here, and turns each failure into one sentence.
"""

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
from huggingface_hub.utils._xet import abort_xet_session  # No public function ends a Xet download that hangs.

from featviz.errors import WeightsError
from featviz.networks.weights import sha256_of

STALL_SECONDS = 12
"""Seconds without a byte after which a download counts as stalled."""

METADATA_SECONDS = 8
"""Seconds that the Hub may take to answer a request for a file's metadata."""

POLL_SECONDS = 0.25
"""Seconds between two checks of a download."""

CHUNK_BYTES = 1 << 18
"""Bytes between two reports of progress. With huggingface_hub's default of 10 MB, a slow connection looks stalled."""


@dataclass(frozen=True)
class DownloadProgress:
    """The progress of a download."""

    repo: str
    done: int
    """Bytes on this machine."""
    total: int | None
    """Bytes of the file; None while unknown."""
    seconds_left: float | None
    """At the average speed so far; None before the speed is known."""

    @property
    def share(self) -> float:
        """The share that is done, in [0, 1]."""
        return min(self.done / self.total, 1) if self.total else 0

    def __str__(self) -> str:
        amount = f"{self.done / 1e6:.0f} of {self.total / 1e6:.0f} MB" if self.total else "starting"
        left = f" · about {max(1, round(self.seconds_left))} s left" if self.seconds_left is not None else ""
        return f"Downloading {self.repo} · {amount}{left}"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    repo: str
    name: str
    revision: str
    sha256: str | None
    """Of its bytes; None to accept the sha256 that the Hub states."""

    def __str__(self) -> str:
        return f"'{self.name}' of {self.repo}"


def limitation() -> str:
    """Return what prevents downloads on this machine, "" if nothing is known to. Sends no request."""
    cache = Path(constants.HF_HUB_CACHE)
    if constants.HF_HUB_OFFLINE:
        return "Downloads are off (HF_HUB_OFFLINE): of the networks on the Hub, only those downloaded before work."
    if not os.access(next(folder for folder in (cache, *cache.absolute().parents) if folder.exists()), os.W_OK):
        return (
            f"Downloads cannot be stored in {cache}: of the networks on the Hub, only those downloaded before work; set HF_HOME."
        )
    return ""


def is_cached(file: HubFile) -> bool:
    """Return whether the cache has the file. The file is not read."""
    return _cache_entry(file) is not None


def cached(file: HubFile) -> Path | None:
    """Return the path of the file in the cache, None if it is missing or has another sha256. A damaged file is deleted."""
    path = _cache_entry(file)
    if path is None:
        return None
    digest, stated = sha256_of(path), _as_sha256(path.resolve().name)  # The cache names a file after its ETag.
    if digest == (file.sha256 or stated or digest):
        return path
    if digest != stated:  # Damaged. An intact file with another sha256 stays: other programs may use it.
        _delete(path)
    return None


def _cache_entry(file: HubFile) -> Path | None:
    entry = try_to_load_from_cache(file.repo, file.name, revision=file.revision)
    return Path(entry) if isinstance(entry, str) else None


def fetch(file: HubFile) -> Generator[DownloadProgress, None, Path]:
    """Yield the progress of the download; return the path of the file. Yields nothing if the file is in the cache.

    Concurrent calls for one file share one download. A stalled download is restarted once, without Xet; a plain download that
    has received bytes is not restarted, since huggingface_hub resumes it. A later call restarts one that stays stalled.

    Closing the generator does not stop the download, since other callers may wait for it.

    Raises:
        WeightsError: the download failed, or received no byte for `STALL_SECONDS`, twice if it was restarted.
    """
    if path := cached(file):
        return path
    download, restarted = _join(file), False
    while True:
        download.join(POLL_SECONDS)
        if not download.abandoned:
            if not download.is_alive():
                break
            progress = download.progress()  # May find bytes, so that it is not stalled.
            if not download.stalled:
                yield progress
                continue
        if restarted or download.resumable:
            raise WeightsError(
                f"The download of {file} from {constants.ENDPOINT} stalled {download.amount()}; check the connection, and try again "
                "in a minute."
            )
        download, restarted = _join(file), True
    if download.path is None:
        raise WeightsError(download.failure)
    return download.path


def _join(file: HubFile) -> "_Download":
    """Return the running download of a file; start one if there is none or it has stalled."""
    with _lock:
        download = _downloads.get(file)
        if download is not None and download.stalled:
            download.abandon()
            download = None
        if download is None:
            download = _downloads[file] = _Download(file)
            download.start()
        return download


class _Download(threading.Thread):
    """The download of one file, for any number of waiting callers. A daemon, so that it never delays the program's exit."""

    def __init__(self, file: HubFile):
        super().__init__(daemon=True)
        self.file = file
        self.path: Path | None = None
        self.failure: str | None = None
        self.done = 0
        self.total: int | None = None
        self._first_bytes: tuple[float, int] | None = None
        """When the first bytes were seen, and how many: a resumed download starts with some."""
        self._last_byte_at = time.monotonic()
        self._partial_files: Callable[[], Iterator[Path]] = lambda: iter(())
        self._lock_file: Path | None = None
        """Held by huggingface_hub during the download."""
        self._by_xet = False
        self.abandoned = False
        """Whether another caller has restarted the download of the file. How this one ends does not matter then."""

    @property
    def silence(self) -> float:
        """Seconds since the last byte."""
        return time.monotonic() - self._last_byte_at

    @property
    def stalled(self) -> bool:
        """Whether no byte has arrived for `STALL_SECONDS`."""
        return self.silence > STALL_SECONDS

    @property
    def resumable(self) -> bool:
        """Whether huggingface_hub resumes it: a plain download that has received bytes, not one by Xet."""
        return self.done > 0 and not self._by_xet

    def abandon(self) -> None:
        """Let another download of the same file start. The thread of this one may run on; its result is not used."""
        self.abandoned = True
        if self._by_xet:
            constants.HF_HUB_DISABLE_XET = True  # The only switch. Off for the process: where one file hangs, others will.
            abort_xet_session()
        if self._lock_file:
            with suppress(OSError):  # A hanging download would hold it forever. Windows does not delete an open file.
                self._lock_file.unlink()

    def run(self) -> None:
        try:
            self.path = self._fetch()
        except WeightsError as error:
            self.failure = str(error)
        except Exception as error:
            self.failure = _message(error, self.file)
        finally:
            with _lock:
                if _downloads.get(self.file) is self:
                    del _downloads[self.file]

    def _fetch(self) -> Path:
        constants.DOWNLOAD_CHUNK_SIZE = min(constants.DOWNLOAD_CHUNK_SIZE, CHUNK_BYTES)
        file = self.file
        location: dict[str, Any] = {"repo_id": file.repo, "filename": file.name, "revision": file.revision}
        metadata = get_hf_file_metadata(hf_hub_url(**location), timeout=METADATA_SECONDS)  # Without the download's retries.
        if metadata.commit_hash is None or metadata.etag is None:
            raise errors.FileMetadataError
        stated = _as_sha256(metadata.etag)
        if file.sha256 and stated and stated != file.sha256:
            raise WeightsError(
                f"{file} has sha256 {stated[:12]}… on the Hub instead of {file.sha256[:12]}…, so it is not the file that featviz "
                "knows; name a revision in FEATVIZ_REVISIONS to take it as it is."
            )
        cache, folder = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=file.repo, repo_type="model")
        self.total = metadata.size
        self._partial_files = lambda: (cache / folder / "blobs").glob(f"{metadata.etag}.*.incomplete")
        self._lock_file = cache / ".locks" / folder / f"{metadata.etag}.lock"
        self._by_xet = metadata.xet_file_data is not None and is_xet_available()
        meter: Any = partial(_Meter, self.record)  # In place of a subclass of tqdm.
        path = Path(hf_hub_download(**location, etag_timeout=METADATA_SECONDS, tqdm_class=meter))
        if (expected := file.sha256 or stated) is not None and expected != sha256_of(path):
            _delete(path)
            raise WeightsError(
                f"The downloaded {file} is damaged: its sha256 is not {expected[:12]}…; it was deleted, try again."
            )
        return path

    def record(self, done: int) -> None:
        """Record how many bytes have arrived.

        Raises:
            WeightsError: this download was abandoned, or retries have brought no new byte for five times `STALL_SECONDS`.
        """
        if self.abandoned:
            raise WeightsError(f"{self.file} was restarted.")
        if done > self.done:
            self._advance(done)
        elif self.silence > 5 * STALL_SECONDS:
            raise WeightsError(f"The download of {self.file} was interrupted repeatedly, {self.amount()}; try again later.")

    def _advance(self, done: int) -> None:
        self.done, self._last_byte_at = done, time.monotonic()
        self._first_bytes = self._first_bytes or (self._last_byte_at, done)

    def progress(self) -> DownloadProgress:
        """Return the progress. The size of the partial file counts too, since another process may be downloading it."""
        for path in self._partial_files():
            with suppress(OSError):  # It may have been completed and renamed meanwhile.
                if (size := path.stat().st_size) > self.done:
                    self._advance(size)
        left = None
        if self._first_bytes and self.total and self.done > self._first_bytes[1]:
            since, first = self._first_bytes
            left = (self.total - self.done) * (time.monotonic() - since) / (self.done - first)
        return DownloadProgress(self.file.repo, self.done, self.total, left)

    def amount(self) -> str:
        """Return how much has arrived, for a message."""
        return f"after {self.done / 1e6:.0f} of {self.total / 1e6:.0f} MB" if self.total else "before the first byte"


class _Meter:
    """The part of tqdm's interface that huggingface_hub uses. Reports bytes instead of drawing a bar."""

    def __init__(self, record: Callable[[int], None], *, total: int | None = None, **_: Any):
        self._record, self.n, self.total = record, 0, total

    def __enter__(self) -> "_Meter":
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, n: int = 1) -> None:
        self.n += n
        self._record(self.n)

    def refresh(self) -> None: ...

    def close(self) -> None: ...

    def set_postfix_str(self, *_: Any, **__: Any) -> None: ...


_downloads: dict[HubFile, _Download] = {}
_lock = threading.Lock()
"""Guards `_downloads`."""

_REFUSED = "{hub} refuses access to {file} (error {status}); set HF_TOKEN to a token that may read it, and check HF_ENDPOINT."

_STATUS_MESSAGES: dict[int, str] = {
    401: _REFUSED,
    403: _REFUSED,
    429: "{hub} has had too many requests from here; try again in a few minutes, or set HF_TOKEN, which allows more.",
}
"""HTTP status → message."""

_MESSAGES: tuple[tuple[type[Exception], str], ...] = (
    (
        errors.OfflineModeIsEnabled,
        "{file} is not on this machine, and HF_HUB_OFFLINE forbids downloading it; unset it and try again.",
    ),
    (errors.GatedRepoError, "{file} requires that you accept its terms at {page}; do so, and set HF_TOKEN."),
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
    (httpx2.RemoteProtocolError, "The download of {file} from {hub} was interrupted; nothing was stored, try again."),
    (httpx2.TimeoutException, "{hub} does not answer when asked for {file}; check the connection, and try again in a minute."),
    (httpx2.HTTPError, "{hub} cannot be reached for {file}; check the network connection, the proxy, and HF_ENDPOINT."),
    (OSError, "{file} could not be saved in {cache} ({reason}); make room there, or set HF_HOME to another folder."),
    (Exception, "{file} could not be downloaded from {hub} ({reason}); try again in a few minutes."),
)
"""Exception → message. The first class that matches is used."""


def _message(error: BaseException, file: HubFile) -> str:
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__  # The cause says why the file could not be downloaded.
    if type(error) is OSError and error.errno is None:
        error = httpx2.RemoteProtocolError(str(error))  # huggingface_hub raises this when the body ends too early.
    status = getattr(getattr(error, "response", None), "status_code", None)
    kind, message = next((kind, message) for kind, message in _MESSAGES if isinstance(error, kind))
    if kind is errors.HfHubHTTPError and status in _STATUS_MESSAGES:
        message = _STATUS_MESSAGES[status]
    return message.format(
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


def _delete(link: Path) -> None:
    """Delete a file of the cache: the link and its target."""
    for path in (link.resolve(), link):
        with suppress(OSError):  # A shared cache may be read-only.
            path.unlink()


def _as_sha256(etag: str) -> str | None:
    """Return an ETag if it is a sha256, as those of large files are, else None."""
    return etag if re.fullmatch("[0-9a-f]{64}", etag) else None
