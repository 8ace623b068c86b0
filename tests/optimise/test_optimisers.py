"""The state of the optimisers and their first step."""

import torch

from featviz.optimise.optimisers import OPTIMISERS, history_length, resized


def test_adams_state_is_resized_and_its_step_and_signs_kept():
    moments = {"step": torch.tensor(9.0), "exp_avg": torch.full((1, 3, 4, 4), -0.5), "exp_avg_sq": torch.rand(1, 3, 4, 4)}
    larger = resized(moments, (8, 6))
    assert larger["step"] == 9
    assert torch.allclose(larger["exp_avg"], torch.tensor(-0.5))
    assert larger["exp_avg"].shape == larger["exp_avg_sq"].shape == (1, 3, 8, 6)
    assert larger["exp_avg_sq"].min() >= 0


def test_lbfgs_remembers_fewer_steps_of_a_large_image():
    sizes = {side: history_length(side * side * 3 * 4) for side in (512, 1024, 2048, 4096)}
    assert sizes == {512: 10, 1024: 10, 2048: 3, 4096: 2}
    image = torch.zeros(1, 3, 2048, 2048, requires_grad=True)
    assert OPTIMISERS["lbfgs"].make([image]).param_groups[0]["history_size"] == 3


def test_forgetting_the_loss_keeps_the_state_that_does_not_depend_on_it():
    left = {}
    for name, optimiser in OPTIMISERS.items():
        image = torch.rand(1, 3, 4, 4, requires_grad=True)
        made = optimiser.make([image])
        for _ in range(3):
            image.grad = torch.rand_like(image)
            made.step(lambda: 1.0)
        before = dict(made.state[image])
        optimiser.forget_loss(made)
        assert all(made.state[image][kept] is before[kept] for kept in made.state[image])
        left[name] = set(made.state[image])
    assert left == {"lbfgs": set(), "adam": {"step", "exp_avg", "exp_avg_sq"}}
