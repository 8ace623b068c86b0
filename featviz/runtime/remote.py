"""Folders at addresses that fsspec understands, such as hf://datasets/me/pictures or s3://bucket/pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from featviz import limits
from featviz.errors import InputError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


@dataclass(frozen=True)
class RemotePath:
    """A file or folder of a file system of fsspec, with the methods of `pathlib.Path` that a batch needs.

    All raise InputError if the file system cannot be asked, with its reason.
    """

    system: AbstractFileSystem
    path: str

    def __str__(self) -> str:
        return self.system.unstrip_protocol(self.path)

    def __lt__(self, other: RemotePath) -> bool:
        return self.path < other.path

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.system, f"{self.path.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        """The name without its extension."""
        return PurePosixPath(self.path).stem

    @property
    def suffix(self) -> str:
        """The extension of the name, with its dot; "" for none."""
        return PurePosixPath(self.path).suffix

    def exists(self) -> bool:
        """Whether there is such a file or folder."""
        with self._errors():
            return self.system.exists(self.path)

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        with self._errors():
            return self.system.isdir(self.path)

    def is_file(self) -> bool:
        """Whether it is a file."""
        with self._errors():
            return self.system.isfile(self.path)

    def iterdir(self) -> Iterator[RemotePath]:
        """Return an iterator over what is in the folder."""
        with self._errors():
            paths = self.system.ls(self.path, detail=False)
        return (RemotePath(self.system, path) for path in paths)

    def mkdir(self, *, parents: bool, exist_ok: bool) -> None:
        """Make the folder and those above it, where the file system has folders at all."""
        assert parents
        with self._errors():
            self.system.makedirs(self.path, exist_ok=exist_ok)

    def read(self) -> bytes:
        """Return the content, but no more than one byte beyond `limits.MEGABYTES`, so that a larger file is refused as such."""
        with self._errors(), self.system.open(self.path, "rb") as file:
            return file.read(int(limits.MEGABYTES.value * 1e6) + 1)

    def write(self, content: bytes) -> None:
        """Write the content. Stores of objects show a file when it is complete, so there is no name for a partial one."""
        with self._errors():
            self.system.pipe_file(self.path, content)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Each file system has errors of its own.
            raise InputError(f"'{self}' cannot be used: {' '.join(str(error).split()) or type(error).__name__}.") from error


def place(name: str | os.PathLike) -> Path | RemotePath:
    """Return the place of a name: a path, also for file://, or a `RemotePath` for another address.

    Raises:
        InputError: fsspec knows no such kind of address, or lacks the package for it.
    """
    if "://" not in str(name):
        return Path(name)
    from fsspec.core import url_to_fs  # Imported late: only addresses need it.

    try:
        system, path = url_to_fs(str(name))
    except (ImportError, ValueError) as error:
        raise InputError(f"'{name}' cannot be used: {error}.") from None
    return Path(path) if "file" in system.protocol else RemotePath(system, path)
