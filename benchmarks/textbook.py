"""### How much sooner than the textbook's DeepDream?

The loop that tutorials print: all of the network forward, weights that require gradients, every octave from the picture enlarged.
The same network, layer, octaves and steps; the two take turns, and a ratio is of one round.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.cases import BUNDLED, DREAMT, PICTURES
from benchmarks.measure import Row, ratios, side_by_side
from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load, load_module
from featviz.networks.network import Network
from featviz.networks.table import NETWORKS, NetworkSpec
from featviz.optimise.objectives import gram
from featviz.optimise.scaling import fit
from featviz.recipes.deepdream import DeepDream

SIZE, OCTAVES, SCALE, STEPS = 400, 4, 1.5, 6


def textbook(model: nn.Module, layer: nn.Module, image: Tensor, spec: NetworkSpec) -> Tensor:
    """DeepDream as it is taught, (1, 3, H, W) in [0, 1] in and out."""
    mean, std = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (spec.mean, spec.std))
    seen = {}
    hook = layer.register_forward_hook(lambda module, given, answer: seen.update(answer=answer))
    height, width = image.shape[-2:]
    for octave in reversed(range(OCTAVES)):
        shape = round(height / SCALE**octave), round(width / SCALE**octave)
        image = functional.interpolate(image, shape, mode="bilinear").detach()
        for _ in range(STEPS):
            image.requires_grad_()
            model((image - mean) / std)
            loss = seen["answer"].square().mean()
            loss.backward()
            image = (image + 0.01 * image.grad / (image.grad.abs().mean() + 1e-8)).clamp(0, 1).detach()
    hook.remove()
    return image


STYLE_LAYERS, CONTENT_LAYER = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), "relu4_2"
"""Of VGG-19 (Gatys et al., 2016)."""


def gatys(network: Network, content: Tensor, style: Tensor, evaluations: int) -> Tensor:
    """Style transfer as it is taught: Gram matrices, one size, L-BFGS of torch; (1, 3, H, W) in [0, 1] in and out.

    Weights are those of Gatys' own program, 1000 / C² for each style layer, whose network takes pixels of 0 to 255.
    """
    with torch.no_grad():
        grams = {layer: gram(maps) for layer, maps in network.activations(style, STYLE_LAYERS).items()}
        kept = network.activations(content, [CONTENT_LAYER])[CONTENT_LAYER]
    image = content.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([image], max_iter=evaluations, max_eval=evaluations, tolerance_grad=0, tolerance_change=0)

    def loss() -> Tensor:
        optimiser.zero_grad()
        maps = network.activations(image, [*STYLE_LAYERS, CONTENT_LAYER])
        value = (maps[CONTENT_LAYER] - kept).square().mean()
        for layer, target in grams.items():
            value = value + 1000 / len(target[0]) ** 2 * (gram(maps[layer]) - target).square().mean()
        value.backward()
        return value

    optimiser.step(loss)
    return image.detach().clamp(0, 1)


def compared(name: str, rounds: int = 3) -> dict[str, list[float]]:
    """Seconds of both on a network, in turns."""
    (path,) = PICTURES[DeepDream].values()
    image = fit(to_tensor(open_picture(path)), SIZE, 32)
    spec, network = NETWORKS[name], load(name)
    model = load_module(name)
    layer = dict(model.named_children())[spec.layers[DREAMT[name]]]
    model.requires_grad_()
    recipe = DeepDream(layer=f"{name}/{DREAMT[name]}", size=SIZE, octaves=OCTAVES, octave_scale=SCALE, steps=STEPS)
    works = {
        "the textbook's loop": lambda: textbook(model, layer, image, spec),
        "ours": lambda: list(recipe.run(network, image=image)),
    }
    return side_by_side(works, rounds)


def rows() -> Iterator[Row]:
    for name in BUNDLED:
        seconds = compared(name)
        for which, values in seconds.items():
            yield Row(f"{NETWORKS[name].title} {DREAMT[name]}, {SIZE} px, {OCTAVES} × {STEPS} steps: {which}", "s", values)
        yield Row("ours is faster", "times", ratios(*seconds.values()), "aim: 2.5")
