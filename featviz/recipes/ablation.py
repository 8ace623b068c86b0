"""Ablation: the names of a picture while some channels of a layer, or a region of the picture, are switched off."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from featviz.networks.network import Network
from featviz.networks.table import LOGITS, ClassifierAddress, class_names, split
from featviz.optimise import tiles
from featviz.optimise.gradients import blur, soften
from featviz.optimise.precision import TINY
from featviz.optimise.scaling import fit, fitted_size, resize, size_of
from featviz.recipes.activation_maps import forward_demand
from featviz.recipes.deepdream import parse_channels
from featviz.recipes.recipe import Demand, Frame, Frames, Recipe, param

EDGE = 8
"""Softness of a region's edge, in pixels at the size at which the network looks."""

SPREAD = 0.1
"""Standard deviation of the blur that fills a region with its surroundings, relative to the shorter side."""

FAINT = 1e-3
"""Weight of the mean colour in that fill: it counts only where the blur sees less than this share of the rest."""

NAMES = 5
"""Names before and after."""

BEFORE, OFF = "before: ", "off: "
"""Prefixes of the measures that are the names before, and the channels that are off."""


class Ablation(Recipe):
    """Switch off channels or a region and see what a picture is called then: what the name depends on."""

    name: ClassVar[str] = "ablation"
    title: ClassVar[str] = "Ablation"
    tab_group: ClassVar[str] = "Look Inside"
    has_tab: ClassVar[bool] = False
    action: ClassVar[str] = "What is it without?"
    explanation: ClassVar[str] = """\
To learn what a part is for, **take it away and see what changes**.

- **Channels** that are off are 0 everywhere. The rest of the network runs as ever, and finds other names.
- **A region** that is off is filled with the blurred colours around it, so that no edge is left to look at.
- **Without channels and without a region**, the fewest channels that change the name are looked for: the one that counts most
  for the name rather than for the next one is switched off, again and again.

*Try it: paint over the eyes of the cat. Then leave the picture whole and see how many channels of the last layer it takes.*
"""
    images: ClassVar[dict[str, str]] = {"image": "The picture to name."}
    optional_images: ClassVar[dict[str, str]] = {"mask": "What to switch off: white for this, black or transparent for the rest."}
    mask_action: ClassVar[str] = "Paint what to switch off"
    produces: ClassVar[Literal["picture", "video", "numbers"]] = "numbers"

    layer: ClassifierAddress = param("efficientnet_lite0/head", "Network, one that classifies, and layer of the channels.")
    channels: str = param(
        "",
        "Channels to switch off, e.g. '12, 85'; empty, and without a mask: the fewest that change the name.",
        longest=4000,
    )
    most: int = param(64, "The most channels that the search switches off.", ge=1, le=512, group="How")
    size: int = param(
        224, "Longest side at which the network looks at the picture, in pixels.", ge=64, le=1024, step=16, group="How"
    )

    @model_validator(mode="after")
    def _check_channels(self) -> "Ablation":
        parse_channels(self.channels)
        return self

    @property
    def network_name(self) -> str:
        return split(self.layer)[0]

    def check_network(self, network: Network) -> None:
        network.check_channels(split(self.layer)[1], parse_channels(self.channels))

    def run(self, network: Network, *, image: Tensor, mask: Tensor | None = None) -> Frames:
        """Yield a frame after each channel that the search switches off; without a search, one frame.

        Measures are the probabilities of the likeliest names, the likeliest first; then those without anything switched off,
        as "before: NAME"; then, as "off: channel 12", how much each channel that is off had spoken for the name before rather than
        for its rival, to first order. The image of a frame is the picture that the network sees.

        `image` and `mask` are (1, 3, H, W) in [0, 1].

        Raises:
            FieldError: the layer has no such channel, or the weights have no classifier.
            InputError: the picture is too small for the network, or the mask is black all over.
        """
        whole = fit(image, self.size, network.spec.smallest)
        before = self._names(logits_without(network, whole, split(self.layer)[1], ()))
        image = without_region(whole, soften(resize(mask, size_of(whole)), EDGE)) if mask is not None else whole
        for step in self.states(network, image, searching=mask is None):
            if step.off or step.done:
                names = self._names(step.logits)
                effects = {f"{OFF}channel {channel}": effect for channel, effect in step.off.items()}
                count = max(1, len(step.off))
                yield self._frame(count, count if step.done else self.most + 1, names, before, image, effects)

    def states(self, network: Network, image: Tensor, *, searching: bool) -> Iterator["SearchStep"]:
        """Yield the states of the search in an image (1, 3, H, W) as the network sees it; one state if `channels` are given.

        `searching`: whether to search if there are none. Raises as `run` does.
        """
        self.check_network(network)
        layer, channels = split(self.layer)[1], parse_channels(self.channels)
        if channels or not searching:
            yield SearchStep({}, logits_without(network, image, layer, channels), done=True)
        else:
            yield from search(network, image, layer, self.most)

    def _frame(
        self,
        step: int,
        steps: int,
        names: Mapping[str, Tensor],
        before: Mapping[str, Tensor],
        image: Tensor,
        effects: Mapping[str, Tensor],
    ) -> Frame:
        likeliest = next(iter(names.values()))
        earlier = {f"{BEFORE}{name}": probability for name, probability in before.items()}
        stage = f"{len(effects)} channel{'s' * (len(effects) != 1)} off" if effects else ""
        return Frame(step, steps, stage, step / steps, -likeliest.log(), image, measures={**names, **earlier, **effects})

    def _names(self, logits: Tensor) -> dict[str, Tensor]:
        """Return {class: probability, ()} of the likeliest classes by their logits (classes,), the likeliest first."""
        probabilities, classes = logits.softmax(0).topk(min(NAMES, len(logits)))
        names = class_names(self.network_name)
        return {names[index]: probability for index, probability in zip(classes.tolist(), probabilities, strict=True)}

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        once = forward_demand(network, LOGITS, size, self.size)
        searching = not self.channels and "mask" not in others
        passes = 1 + (2 * self.most if searching else 1)  # A step of the search goes back at most to the first layer.
        bytes_ = network.cost({LOGITS}).bytes * math.prod(fitted_size(size, self.size)) if searching else 0
        return Demand(passes * once.flops, max(once.bytes, tiles.resident(bytes_)), passes * once.fixed_work)


@torch.no_grad()
def logits_without(network: Network, image: Tensor, layer: str, channels: Sequence[int]) -> Tensor:
    """Return the logits (classes,) of an image (1, 3, H, W), with the given channels of a layer set to 0.

    Raises what `Network.activations` raises.
    """

    def switch_off(activations: Tensor) -> Tensor:
        return activations.index_fill(1, torch.tensor(channels, device=activations.device, dtype=torch.long), 0)

    return network.activations(image, [LOGITS], edits={layer: switch_off})[LOGITS].flatten()


@dataclass(frozen=True)
class SearchStep:
    """A state of the search for the fewest channels that change the name."""

    off: Mapping[int, Tensor]
    """Each channel that is off, in order, and its effect, (): how much the margin of the name over its rival falls without it, to
    first order."""
    logits: Tensor
    """The logits without them, (classes,)."""
    done: bool
    """Whether the search is over: the name has changed, no channel speaks for it any more, or `most` are off."""


def search(network: Network, image: Tensor, layer: str, most: int) -> Iterator[SearchStep]:
    """Switch off the channels of a layer greedily until the likeliest class of an image (1, 3, H, W) is another one.

    In each step the channel with the greatest effect: the gradient of the margin over the likeliest rival times the activations,
    summed over places. For a layer that the classifier averages, this is exact. The first step has nothing switched off.
    """
    off: dict[int, Tensor] = {}
    name: int | None = None
    while True:
        leaves: list[Tensor] = []

        def switch_off(activations: Tensor, leaves: list[Tensor] = leaves) -> Tensor:
            leaves.append(activations.detach().requires_grad_())
            return leaves[0].index_fill(1, torch.tensor([*off], device=activations.device, dtype=torch.long), 0)

        with torch.enable_grad():
            logits = network.activations(image, [LOGITS], edits={layer: switch_off})[LOGITS].flatten()
            name = int(logits.argmax()) if name is None else name
            rival = logits.detach().index_fill(0, torch.tensor(name, device=logits.device), -torch.inf).argmax()
            margin = logits[name] - logits[rival]
        (gradient,) = torch.autograd.grad(margin, leaves)
        effects = (gradient * leaves[0].detach())[0].sum((1, 2))
        strongest = int(effects.argmax())
        done = bool(margin < 0) or len(off) == most or not effects[strongest] > 0
        yield SearchStep(dict(off), logits.detach(), done)
        if done:
            return
        off[strongest] = effects[strongest]


def without_region(image: Tensor, mask: Tensor) -> Tensor:
    """Return an image (1, 3, H, W) in [0, 1] where the mask (1, 1, H, W) in [0, 1] is replaced by the blurred rest of the image.

    Where the rest is too far away to be seen by the blur, it is the mean colour of the rest.
    """
    rest = 1 - mask
    weight, sigma = rest.mean().clamp_min(TINY), SPREAD * min(size_of(image))
    mean = (image * rest).mean((2, 3), keepdim=True) / weight
    near = blur(rest, sigma)
    around = (blur(image * rest, sigma) + FAINT * mean) / (near + FAINT)
    return image * rest + around * mask
