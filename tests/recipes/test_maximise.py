"""Any objective over any parameterization."""

import pytest
import torch
from standins import tiny

from featviz import NETWORKS, add_network, remove_network
from featviz.errors import FieldError, InputError
from featviz.networks.cache import load
from featviz.optimise.objectives import channel, direction, direction_cosine, diversity, objective, total_variation
from featviz.optimise.parameterization import Pixels, Spectrum
from featviz.recipes.maximise import maximise

GREY = torch.full((1, 3, 32, 32), 0.5)


def noise(size=32, batch=1):
    return Spectrum.noise((size, size), batch=batch)


@pytest.mark.parametrize("make", [noise, lambda: Pixels(GREY)], ids=["spectrum", "pixels"])
@pytest.mark.parametrize(
    "goal",
    [
        channel("block2", 3),
        direction("block2", torch.linspace(-1, 1, 24)),
        direction_cosine("block2", torch.linspace(-1, 1, 24)),
        channel("block2", 3) - 10 * total_variation("input"),
    ],
    ids=str,
)
def test_any_objective_over_any_parameterization_gets_larger(goal, make):
    network, parameterization = load("efficientnet_lite0"), make()
    before = goal(network.activations(parameterization().detach(), goal.layers))
    frames = list(maximise(goal, parameterization, network, steps=12, robustness=0.3))
    assert [(frame.step, frame.steps) for frame in frames] == [(step, 12) for step in range(1, 13)]
    assert 0 <= frames[-1].image.min() <= frames[-1].image.max() <= 1
    assert goal(network.activations(frames[-1].image, goal.layers)) > 1.5 * before


def test_a_parameterization_of_the_users_is_one_with_parameters_and_a_call():
    class Colour:
        def __init__(self):
            self.values = torch.zeros(2, 3, requires_grad=True)

        def parameters(self):
            return iter([self.values])

        def __call__(self):
            return self.values.sigmoid()[:, :, None, None].expand(-1, -1, 16, 16)

    @objective("input")
    def redness(image):
        return image[:, 0].mean((1, 2)).sum() - image[:, 1:].mean((1, 2, 3)).sum()

    *_, frame = maximise(redness, Colour(), tiny(), steps=20)
    assert frame.image.shape == (2, 3, 16, 16)
    assert (frame.image[:, 0] > 0.9).all()
    assert (frame.image[:, 1:] < 0.1).all()


def test_images_of_a_batch_do_not_influence_each_other_unless_the_objective_says_so():
    network, waves = tiny(), noise(batch=2).waves.detach()
    *_, both = maximise(channel("relu2", [3, 1]), Spectrum(waves.clone(), (32, 32)), network, steps=4)
    *_, alone = maximise(channel("relu2", 1), Spectrum(waves[1:].clone(), (32, 32)), network, steps=4)
    assert torch.allclose(both.image[1:], alone.image, atol=1e-4)
    *_, unlike = maximise(channel("relu2", [3, 1]) + 9 * diversity("relu2"), Spectrum(waves.clone(), (32, 32)), network, steps=4)
    assert not torch.allclose(both.image, unlike.image, atol=1e-2)


@pytest.mark.parametrize(
    ("goal", "network", "error", "sentence"),
    [
        (channel("relu2", 3), None, InputError, "names no network; expected addresses such as"),
        (channel("efficientnet_lite0/block2", 3), "tiny", InputError, "is one of 'efficientnet_lite0'; this network is Tiny"),
        (channel("tinny/relu2", 3), None, FieldError, "There is no network 'tinny'"),
        (channel("relu9", 3), "tiny", FieldError, "Tiny has no layer 'relu9'; did you mean"),
        (channel("relu2", 5), "tiny", FieldError, "relu2 has no channel 5; it has 0 to 4"),
        (direction("relu2", [1.0] * 6), "tiny", FieldError, "relu2 has no channel 5"),
        (direction("relu2", [1.0] * 4), "tiny", InputError, "has 4 numbers; expected 5"),
    ],
)
def test_mistakes_are_refused_before_the_first_step(goal, network, error, sentence):
    start = noise()
    before = start.waves.detach().clone()
    with pytest.raises(error, match=sentence):
        next(maximise(goal, start, tiny() if network else None, steps=2))
    assert torch.equal(start.waves, before)


@pytest.fixture
def mine():
    """A network of the user's, by the name "mine"."""
    network = tiny()
    add_network("mine", network.module, mean=(0.5,) * 3, std=(0.5,) * 3, layers={"early": "1", "deep/late": "4"})
    yield NETWORKS["mine"]
    remove_network("mine")


def test_the_network_follows_from_the_address_and_a_layer_may_have_a_slash_in_its_name(mine):
    *_, named = maximise(channel("mine/early", 2), noise(), steps=2)
    *_, given = maximise(channel("early", 2), noise(), load("mine"), steps=2)
    assert torch.equal(named.image, given.image)
    first, *_, last = maximise(channel("mine/deep/late", 2), noise(), steps=6)
    assert last.loss < first.loss


def test_the_gradient_of_a_frame_is_that_of_the_images_before_the_step():
    """Against finite differences, without random movements."""
    network = tiny()
    network.module.double()
    network._mean, network._std = network._mean.double(), network._std.double()
    pixels = Pixels(torch.rand(2, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    before, goal = pixels().detach(), channel("conv3", [1, 2])
    (frame,) = maximise(goal, pixels, network, steps=1, robustness=0)
    for place in ((0, 1, 6, 5), (1, 2, 8, 2)):
        change = torch.zeros_like(before)
        change[place] = 1e-6
        values = [goal(network.activations(image, ["conv3"])).item() for image in (before + change, before - change)]
        assert frame.gradient[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)
