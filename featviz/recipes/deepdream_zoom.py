"""DeepDream Zoom: a video in which each frame is a dream of the previous one, enlarged and turned a little."""

from dataclasses import replace
from typing import ClassVar, Literal

from torch import Tensor

from featviz.networks.network import Network
from featviz.networks.table import Address
from featviz.optimise.colours import ColourStatistics, colour_statistics, hold_colours
from featviz.optimise.gradients import soften
from featviz.optimise.scaling import resize, size_of
from featviz.optimise.transforms import Zoom
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.recipe import Demand, Frames, Recipe, param


class DeepDreamZoom(DeepDream):
    """Fly into a dream: each frame of the video dreams on the one before, zoomed in a little (Mordvintsev et al., 2015)."""

    name: ClassVar[str] = "deepdream_zoom"
    title: ClassVar[str] = "DeepDream Zoom"
    action: ClassVar[str] = "Start the zoom"
    explanation: ClassVar[str] = """\
A zoom into a dream: **each frame of the video is a dream of the previous frame, seen from a little closer.**

1. **Dream.** The picture is changed so that a layer of the network sees more of what it already sees, as in *DeepDream*,
   but only a little.
2. **Move closer.** The dream is enlarged about its centre and turned by a fraction of a degree.
3. **Dream again, on the dream.** The last dream is now larger, so the layer finds new detail inside it: an eye
   gets lashes, and between the lashes another eye begins.
4. **Repeat.** After a few seconds nothing is left of your picture. You see only what the network knows.

*Try it: an early layer such as block 5 for a flight through patterns, and a zoom below 1 to fly out instead of in.*
"""
    sweep_fields: ClassVar[tuple[str, ...]] = ()
    produces: ClassVar[Literal["picture", "video"]] = "video"

    follows_video: ClassVar[bool] = False
    steadiness: ClassVar[float] = 0.0  # type: ignore[misc]  # No field here: there is no video to follow.
    layer: Address = param(
        "efficientnet_lite0/block9",
        "Network and layer to amplify: early layers see edges and textures, later ones eyes and animals.",
    )
    strength: float = param(1.0, "Mean change of a pixel in each step, of 255.", ge=0.1, le=10, step=0.1)
    steps: int = param(2, "Steps of gradient ascent in each octave of each frame.", ge=1, le=100, usual=12, group="Octaves")
    size: int = param(400, "Longest side of the video, in pixels.", ge=64, le=4096, step=16, usual=1024, group="Video")
    octaves: int = param(
        4, "Sizes each frame passes through, small to large: more give larger structures.", ge=1, le=10, group="Octaves"
    )
    seconds: float = param(4.0, "Length of the video.", ge=0.1, le=60, step=0.1, usual=20)
    zoom: float = param(1.6, "How much larger everything gets in a second; under 1 it goes backwards.", ge=0.25, le=4, step=0.05)
    turn: float = param(
        6.0, "Degrees turned in a second, clockwise; negative ones turn the other way.", ge=-180, le=180, step=1, group="Video"
    )
    fps: int = param(12, "Frames a second: more are smoother, take longer and dream more often.", ge=1, le=50, group="Video")

    def variants(self, size: int = 144) -> list[Recipe]:
        """Return none: stills do not show which layer suits a video."""
        return []

    @property
    def frames(self) -> int:
        """The number of frames of the video."""
        return max(1, round(self.seconds * self.fps))

    def run(self, network: Network, *, image: Tensor, guide: Tensor | None = None, mask: Tensor | None = None) -> Frames:
        """Yield a frame after each step of each octave of each video frame; the last of each has `is_video_frame`.

        The first video frame is a plain dream; the others keep its brightness, contrast and saturation, which would drift. While a
        later one is computed, `image` is the one before, since small octaves would flicker. Images stay float32 from one to the
        next and are never rounded. Takes the arguments of `DeepDream.run` and raises what it raises.
        """
        motion = Zoom(self.zoom ** (1 / self.fps), self.turn / self.fps)
        fixed = self.fixed_objective(network, image, guide)
        colours: ColourStatistics | None = None
        previous: Tensor | None = None
        opacity: Tensor | None = None
        """Where the picture is dreamt on, (1, 1, H, W); None for everywhere."""
        for number in range(self.frames):
            # Each frame has its own seed. With one seed, all frames are shifted alike, and a fixed pattern appears.
            dream = self.replace(seed=(self.seed + number) % 2**31)
            before = image if previous is None else motion(previous)
            for frame in DeepDream.dream(dream, network, before, fixed, mask):
                done = frame.step == frame.steps
                if done and colours is None:
                    if mask is not None and not self.outside:
                        opacity = soften(resize(mask, size_of(frame.image)), self.feather)
                    colours = colour_statistics(frame.image, opacity)
                elif done and colours is not None:
                    frame = frame.replace(image=hold_colours(frame.image, colours, opacity))
                yield frame.replace(
                    step=number * frame.steps + frame.step,
                    steps=self.frames * frame.steps,
                    stage=f"frame {number + 1} of {self.frames}",
                    work=(number + frame.work) / self.frames,
                    **({} if done or previous is None else {"image": previous}),
                    is_video_frame=done,
                )
            previous = frame.image

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        dream = super().demand(network, size, **others)
        return replace(dream, flops=dream.flops * self.frames, fixed_work=dream.fixed_work * self.frames)
