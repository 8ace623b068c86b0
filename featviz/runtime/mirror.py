"""The live mirror: dream on the frames of a camera as they come, and carry the dream of each frame on to the next."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from featviz import limits
from featviz.errors import InputError, LimitError
from featviz.media.images import to_picture, to_tensor
from featviz.media.saving import NOTE
from featviz.networks.cache import load
from featviz.networks.table import FASTEST
from featviz.optimise.flow import motion
from featviz.optimise.scaling import fit, size_of
from featviz.optimise.tiles import enough_memory, granted, release_free_memory
from featviz.recipes import metadata
from featviz.recipes.deepdream import DeepDream
from featviz.runtime.devices import Device, resolve, slot
from featviz.runtime.memory import reserve
from featviz.runtime.scheduler import Slot, StoppedError

DREAM = DeepDream(layer=f"{FASTEST}/block9", strength=7.0, size=256, octaves=1, steps=1, jitter=16)
"""The dream of one frame. Layer and strength may be others; Size and steps are chosen for eight frames a
second on two cores, the goal."""

CARRIED = 0.93
"""The share of the dream that stays from one frame to the next. It saturates at 1 / (1 - 0.93), 14 steps."""


@dataclass(frozen=True)
class Reflection:
    """A frame and the dream on it."""

    frame: Tensor
    """The frame of the camera at the size of the dream, (1, 3, H, W) in [0, 1]."""
    dream: Tensor
    """The frame with the dream, the same."""


class Mirror:
    """A camera's mirror for one visitor. Between frames it holds one reflection, and neither the device nor reserved memory.

    While a frame is computed, one other may wait; more are dropped. Each frame waits for its turn on the device, which the mirror
    shares with other mirrors and runs.

    Thread-safe.
    """

    def __init__(self, *, device: Device = "auto"):
        self._device = device
        self._seconds = limits.MIRROR_SECONDS.value
        """How long the mirror may run from its first frame on."""
        self._began: float | None = None
        self._slot: Slot | None = None
        self._last: Reflection | None = None
        self._count = 0
        self._ended = False
        self._places = threading.BoundedSemaphore(2)
        self._busy = threading.Lock()
        self.seconds = 0.0
        """Seconds that the latest frame took, without its wait for the frame before."""

    def show(self, frame: Image.Image, recipe: DeepDream = DREAM) -> Image.Image | None:
        """Return the dream on a frame of the camera, with its recipe; None for a frame that is dropped, or after `end`.

        Args:
            frame: RGB, of any size.
            recipe: the dream, of a layer of `FASTEST`. It may differ from frame to frame.

        Raises:
            InputError: the layer is of another network.
            LimitError: the mirror has used up its time, or there is too little memory.
            MissingExtraError: OpenCV is not installed.
        """
        if recipe.network_name != FASTEST:
            raise InputError(f"The layer is {recipe.layer}, but the mirror computes layers of {FASTEST} only.")
        if not self._places.acquire(blocking=False):
            return None
        try:
            with self._busy:
                return None if self._ended else self._timed(frame, recipe)
        except StoppedError:
            return None
        finally:
            self._places.release()

    def end(self) -> None:
        """End the mirror: a frame that waits for the device does not get it, and later ones are dropped."""
        self._ended, self._last, self._slot = True, None, None
        release_free_memory()

    def _timed(self, frame: Image.Image, recipe: DeepDream) -> Image.Image:
        """Return the dream on a frame and record how many seconds it took. Raises LimitError when the mirror's time is over."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        if now - self._began > self._seconds:
            raise LimitError(f"The mirror ends after {self._seconds} s; start it again.")
        dream = self._dream(frame, recipe)
        self.seconds = time.monotonic() - now
        return dream

    def _dream(self, frame: Image.Image, recipe: DeepDream) -> Image.Image:
        picture = frame.convert("RGB")
        picture.thumbnail((recipe.size, recipe.size), Image.Resampling.BILINEAR)
        device = resolve(self._device)
        turn = self._slot = self._slot or slot(device, new=False, recurring=True, stopped=lambda: self._ended)
        memory = reserve(recipe, device, {"image": picture.size}, recurring=True)
        with memory as budget, turn, enough_memory(), granted(budget):
            network = load(FASTEST, device)
            image = fit(to_tensor(picture, device), recipe.size, network.spec.smallest).clamp(0, 1)
            start = (image + self._carried(image)).clamp(0, 1)
            # Each frame has its own seed. With one seed, all frames are shifted alike, and a fixed pattern appears.
            self._count += 1
            (step,) = recipe.replace(seed=self._count).run(network, image=start)
            self._last = None if self._ended else Reflection(image, step.image)
            result = to_picture(step.image)
        result.info[NOTE] = metadata.note(recipe, ["image"], whole=False)
        return result

    @torch.no_grad()
    def _carried(self, image: Tensor) -> Tensor:
        """Return what the new frame carries on of the dream before: its change of the picture, moved along with the picture."""
        last = self._last
        if last is None or size_of(last.frame) != size_of(image):
            return torch.zeros_like(image)
        moved = motion(last.frame, image, "fast")
        return CARRIED * moved.visible * moved(last.dream - last.frame)
