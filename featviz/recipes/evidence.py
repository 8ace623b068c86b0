"""Evidence: the logit of a class as an exact sum over the places and the channels of the last layer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import ClassVar

import torch
from PIL import Image
from pydantic import model_validator
from torch import Tensor

from featviz.errors import FieldError
from featviz.media.images import to_picture, to_tensor
from featviz.media.sheets import contact_sheet
from featviz.networks.network import Network
from featviz.networks.table import LOGITS, Classifier, check_class, class_index, class_names
from featviz.optimise.scaling import fit, fitted_size, resize, size_of
from featviz.recipes.activation_maps import forward_demand, heat
from featviz.recipes.recipe import Demand, Frame, Frames, Recipe, param

CELL = 200
"""Width of a map on the sheet, in pixels."""

TOLERANCE = 1e-4
"""The most by which the terms may miss the logit, relative to the sum of their absolute values. Rounding is below 1e-6."""


@dataclass(frozen=True)
class Terms:
    """A logit, or the difference of two, as a sum. `contributions` and `bias` add up to `value`."""

    class_name: str
    rather_than: str
    """The class whose logit is subtracted; "" for none."""
    value: Tensor
    """The logit, or the difference, ()."""
    contributions: Tensor
    """What each channel adds at each place of the last layer, (C, h, w)."""
    bias: Tensor
    """What the classifier adds whatever the picture, ()."""

    @property
    def name(self) -> str:
        """What `value` is the logit of."""
        return f"{self.class_name} rather than {self.rather_than}" if self.rather_than else self.class_name

    @property
    def places(self) -> Tensor:
        """What all channels add at each place, (h, w): the class activation map (Zhou et al., 2016)."""
        return self.contributions.sum(0)

    @property
    def channels(self) -> Tensor:
        """What each channel adds at all places, (C,)."""
        return self.contributions.sum((1, 2))

    def strongest(self, count: int) -> tuple[list[int], list[int]]:
        """Return the `count` strongest channels for the class and those against it, the strongest first; fewer if there are fewer."""
        sums = self.channels
        order = sums.argsort(descending=True).tolist()
        return [c for c in order[:count] if sums[c] > 0], [c for c in order[: -count - 1 : -1] if sums[c] < 0]


def logit_terms(network: Network, image: Tensor, class_name: str = "", rather_than: str = "", *, names: tuple[str, ...]) -> Terms:
    """Return the terms of the logit of a class for an image (1, 3, H, W) in [0, 1], exact where the classifier is linear.

    That is the case of global average pooling and one linear layer. Then a logit is Σ w_c a_c(place) / places + bias, and the
    weights are its gradient with respect to the activations a of the last layer.

    Args:
        class_name: one of `names`; "" for the likeliest.
        rather_than: another one, whose logit is subtracted; "" for none.
        names: the class names of the network in the order of its logits.

    Raises:
        FieldError: the weights have no classifier, or it is not linear; the class is already the likeliest.
        InputError: the image is smaller than the network accepts.
    """
    layer = list(network.spec.layers)[-1]
    leaves: list[Tensor] = []

    def leaf(activations: Tensor) -> Tensor:
        leaves.append(activations.detach().requires_grad_())
        return leaves[0]

    with torch.enable_grad():
        logits = network.activations(image, [LOGITS], edits={layer: leaf})[LOGITS].flatten()
        index = names.index(class_name) if class_name else int(logits.argmax())
        other = names.index(rather_than) if rather_than else None
        if index == other:
            raise FieldError(f"'{rather_than}' is the class itself; choose another one to compare it with.")
        value = logits[index] - logits[other] if other is not None else logits[index]
    (weights,) = torch.autograd.grad(value, leaves)
    contributions = (weights * leaves[0].detach())[0].to(value.dtype)
    with torch.no_grad():
        without = network.activations(image, [LOGITS], edits={layer: torch.zeros_like})[LOGITS].flatten()
    bias = without[index] - without[other] if other is not None else without[index]
    if (contributions.sum() + bias - value).abs() > TOLERANCE * (contributions.abs().sum() + bias.abs() + 1):
        raise FieldError(
            f"The classifier of {network.spec.title} is not linear, so a logit is no sum over its last layer; "
            "expected global pooling and one linear layer."
        )
    return Terms(names[index], rather_than, value.detach(), contributions, bias)


class Evidence(Recipe):
    """Show why a network gives a picture its name: which places and which channels speak for it, and which against it."""

    name: ClassVar[str] = "evidence"
    title: ClassVar[str] = "Evidence"
    tab_group: ClassVar[str] = "Look Inside"
    has_tab: ClassVar[bool] = False
    action: ClassVar[str] = "Why this name?"
    explanation: ClassVar[str] = """\
The last layer is averaged over all places, and each name weighs its channels. So the score of a name, its *logit*, is a sum:
**every channel at every place adds to it or takes away from it**.

- **The first row** is what speaks for the name: the sum of all channels at each place, then the strongest channels.
- **The second row** is what speaks against it.
- **The numbers** add up to the logit, together with the other channels and a constant, the bias. Nothing is estimated.

*Try it: two names. The picture then shows what tells them apart.*
"""
    images: ClassVar[dict[str, str]] = {"image": "The picture whose name is explained."}
    keeps_alpha: ClassVar[bool] = False
    lists_measures: ClassVar[bool] = True
    measure_sentence: ClassVar[str] = "Together with the other channels and the bias, this adds up to {:.3f}."

    network: Classifier = param("efficientnet_lite0", "Network that names the picture.")
    class_name: str = param("", "Name that is explained, e.g. 'tabby'; empty for the likeliest.", longest=100)
    rather_than: str = param("", "Another name: shows what speaks for the first one rather than for this one.", longest=100)
    count: int = param(4, "How many channels for the name, and how many against it.", ge=1, le=16)
    size: int = param(
        224, "Longest side at which the network looks at the picture, in pixels.", ge=64, le=1024, step=16, group="How"
    )

    @model_validator(mode="after")
    def _check_names(self) -> "Evidence":
        check_class(self.network, self.class_name)
        check_class(self.network, self.rather_than)
        return self

    @property
    def network_name(self) -> str:
        return self.network

    def terms(self, network: Network, image: Tensor) -> Terms:
        """Return the terms of the logit for an image (1, 3, H, W) in [0, 1], scaled to `size`. Raises as `logit_terms` does."""
        names = class_names(self.network)
        chosen = [name and names[class_index(name, self.network)] for name in (self.class_name, self.rather_than)]
        return logit_terms(network, fit(image, self.size, network.spec.smallest), *chosen, names=names)

    def run(self, network: Network, *, image: Tensor) -> Frames:
        """Yield one frame: a sheet of maps, and measures of which the first is the sum of the others.

        The first is the logit, or the difference of two. The others are the strongest channels for and against, the strongest
        first, all other channels, and the bias. `image` is (1, 3, H, W) in [0, 1].

        Raises:
            FieldError, InputError: as for `logit_terms`.
        """
        terms = self.terms(network, image)
        values, rows = terms.channels, terms.strongest(self.count)
        shown = [channel for row in rows for channel in row]
        rest = values.sum() - values[shown].sum()
        measures = {f"channel {channel}": values[channel] for channel in shown}
        measures = {terms.name: terms.value, **measures, "other channels": rest, "bias": terms.bias}
        yield Frame(
            step=1,
            steps=1,
            stage=terms.name,
            work=1.0,
            loss=-terms.value,
            image=to_tensor(_sheet(terms, rows, image), image.device),
            measures=measures,
        )

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        cell = CELL * CELL * size[0] / size[1]
        once = forward_demand(network, LOGITS, size, self.size, sheet=2 * (self.count + 1) * cell)
        return Demand(2 * once.flops, once.bytes, 2 * once.fixed_work)


def _sheet(terms: Terms, rows: Sequence[Sequence[int]], image: Tensor) -> Image.Image:
    """Draw what speaks for a class and what against it, a row each: at each place, and by the channels in `rows`."""
    height, width = size_of(image)
    image = resize(image, fitted_size((height, width), math.ceil(CELL * max(1, height / width)))).clamp(0, 1)
    columns, values, cells = 1 + max(map(len, rows)), terms.channels.tolist(), []
    names = (terms.class_name, terms.rather_than or "against")
    for sign, name, channels in zip((1, -1), names, rows, strict=True):
        side = (sign * terms.places).relu()
        maps = torch.stack([side, *((sign * terms.contributions[channel]).relu() for channel in channels)])
        labels = [
            f"{shorten(name, 16, placeholder='…')} · {sign * side.sum():+.2f}",
            *(f"channel {channel} · {values[channel]:+.2f}" for channel in channels),
        ]
        cells += [(label, to_picture(heat(map_.unsqueeze(0), image))) for label, map_ in zip(labels, maps, strict=True)]
        cells += [("", Image.new("RGB", (1, 1), "white"))] * (columns - len(labels))
    return contact_sheet(cells, columns=columns, width=CELL)
