"""Classification: the most likely classes of a picture."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from featviz.networks.network import Network
from featviz.networks.table import LOGITS, Classifier, class_names
from featviz.optimise.scaling import fit
from featviz.recipes.activation_maps import forward_demand
from featviz.recipes.recipe import Demand, Frame, Frames, Recipe, param


class Classification(Recipe):
    """Name what is in a picture: the five classes of ImageNet that a network finds most likely."""

    name: ClassVar[str] = "classification"
    title: ClassVar[str] = "Classification"
    tab_group: ClassVar[str] = "Look Inside"
    action: ClassVar[str] = "What is it?"
    explanation: ClassVar[str] = """\
This is what the network was trained for: a thousand names of animals and things, and for each the probability that the
picture shows it. It knows no other names, so it calls a face a wig or a bow tie.

*Try it: first a photograph, then its dream. For the network the mountain has become a dog.*
"""
    images: ClassVar[dict[str, str]] = {"image": "The picture to name."}
    produces: ClassVar[Literal["picture", "video", "numbers"]] = "numbers"

    network: Classifier = param("efficientnet_lite0", "Network that classifies the picture.")
    size: int = param(224, "Longest side at which the network looks at the picture, in pixels.", ge=64, le=1024, step=16)

    @property
    def network_name(self) -> str:
        return self.network

    @torch.no_grad()
    def names(self, network: Network, image: Tensor) -> dict[str, Tensor]:
        """Return {class: probability, ()} of the five most likely classes of an image (1, 3, H, W) in [0, 1], likeliest first.

        Probabilities are the softmax over all classes of the network. There are fewer if the network has fewer classes.

        Raises:
            FieldError: the network's weights have no classifier.
            InputError: the scaled image is too small for the network.
        """
        every = network.logits(fit(image, self.size, network.spec.smallest)).softmax(1)[0]
        probabilities, classes = every.topk(min(5, len(every)))
        return {
            class_names(self.network)[index]: probability
            for index, probability in zip(classes.tolist(), probabilities, strict=True)
        }

    def run(self, network: Network, *, image: Tensor) -> Frames:
        """Yield one frame, whose measures are the probabilities that `names` returns. `image` is (1, 3, H, W) in [0, 1].

        Raises:
            FieldError: the network's weights have no classifier.
            InputError: the picture is too small for the network.
        """
        names = self.names(network, image)
        likeliest = next(iter(names.values()))
        yield Frame(step=1, steps=1, stage="", work=1.0, loss=-likeliest.log(), image=image, measures=names)

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        return forward_demand(network, LOGITS, size, self.size)
