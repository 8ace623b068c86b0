"""The state of the optimisers and their first step."""

import pytest
import torch

from featviz.optimise.optimisers import LBFGS, OPTIMISERS, Adam, Curvature, Descent, first_step, history_length, resized

STARTS = torch.linspace(0.3, 0.6, 3 * 4 * 4).view(1, 3, 4, 4)
TARGET = torch.linspace(0.7, 0.2, 3 * 4 * 4).view(1, 3, 4, 4)
STRETCH = torch.linspace(1, 30, 3 * 4 * 4).view(1, 3, 4, 4)


def valley(image):
    """A loss with curvatures from 2 to 60 and more, and its gradient."""
    image = image.detach().requires_grad_()
    apart = image - TARGET
    loss = (STRETCH * apart.square()).sum() + 3 * apart.pow(4).sum()
    (gradient,) = torch.autograd.grad(loss, image)
    return loss.detach(), gradient


def rosenbrock(point):
    point = point.detach().requires_grad_()
    loss = (100 * (point[1:] - point[:-1].square()).square() + (1 - point[:-1]).square()).sum()
    (gradient,) = torch.autograd.grad(loss, point)
    return loss.detach(), gradient


def test_lbfgs_is_that_of_torch_beyond_its_history():
    ours = LBFGS(STARTS)
    theirs = STARTS.clone().requires_grad_()
    reference = torch.optim.LBFGS([theirs], max_iter=1, history_size=10, tolerance_grad=0, tolerance_change=0)
    for step in range(25):
        loss, gradient = valley(ours.image)
        theirs_loss, theirs.grad = valley(theirs)
        # torch divides the first step by the length of the gradient, and all others have the length of the rate.
        length = theirs.grad.abs().sum().clamp_min(1)
        reference.param_groups[0]["lr"] = 1.0 if step else (first_step(theirs.grad, theirs_loss) * length).item()
        reference.step(lambda: 0.0)
        theirs.data.clamp_(0, 1)
        ours.step(gradient, loss, 1.0)
        assert torch.allclose(ours.image, theirs, atol=1e-5), step
    assert valley(ours.image)[0] < 1e-4 * valley(STARTS)[0]


def test_a_step_without_curvature_changes_no_direction():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 6, dtype=torch.float64, generator=generator)
    hessian, gradient = matrix @ matrix.T + torch.eye(6), torch.randn(6, dtype=torch.float64, generator=generator)
    steps = torch.randn(4, 6, dtype=torch.float64, generator=generator)
    plain, disturbed = (Curvature(12, torch.device("cpu")) for _ in range(2))
    for step in steps:
        plain.add(step, hessian @ step)
        disturbed.add(step, hessian @ step)
        disturbed.add(step, -hessian @ step)
        disturbed.add(torch.zeros(6).double(), hessian @ step)
    assert torch.equal(plain.direction(gradient), disturbed.direction(gradient))
    # The secant condition: the change of the gradient along the latest step is undone by that step.
    assert torch.allclose(plain.direction(hessian @ steps[-1]), -steps[-1])


def test_the_first_step_changes_a_pixel_by_a_200th_or_as_far_as_the_loss_reaches():
    gradient = torch.tensor([[2.0, -4.0]])
    assert (first_step(gradient, torch.tensor(1.0)) * gradient).abs().mean().item() == pytest.approx(0.005)
    assert (first_step(gradient, torch.tensor(0.002)) * 20).item() == pytest.approx(0.002)
    flat = LBFGS(STARTS)
    flat.step(torch.zeros_like(STARTS), torch.tensor(1.0), 1.0)
    assert torch.equal(flat.image, STARTS)


def test_a_descent_reaches_the_end_of_a_curved_valley_and_never_climbs():
    descent, losses = Descent(torch.tensor([-1.2, 1.0, -0.5, 0.8]), 20), []
    for _ in range(80):
        descent.accept(*rosenbrock(descent.trial))
        losses.append(descent.loss.item())
        assert rosenbrock(descent.point)[0].item() == losses[-1]
    assert losses == sorted(losses, reverse=True)
    assert torch.allclose(descent.point, torch.ones(4), atol=1e-3)


def test_a_descent_turns_back_from_a_loss_out_of_range():
    """√x has no value below 0, where the first step would lead."""
    descent = Descent(torch.tensor([4.0]), 5)
    for _ in range(40):
        trial = descent.trial.detach().requires_grad_()
        loss = trial.sqrt().sum() * 1.5
        (gradient,) = torch.autograd.grad(loss, trial)
        descent.accept(loss.detach(), gradient)
    assert 0 <= descent.point.item() < 0.1
    assert descent.loss.isfinite()


def test_adams_state_is_resized_and_its_step_and_signs_kept():
    moments = {"step": torch.tensor(9.0), "exp_avg": torch.full((1, 3, 4, 4), -0.5), "exp_avg_sq": torch.rand(1, 3, 4, 4)}
    larger = resized(moments, (8, 6))
    assert larger["step"] == 9
    assert torch.allclose(larger["exp_avg"], torch.tensor(-0.5))
    assert larger["exp_avg"].shape == larger["exp_avg_sq"].shape == (1, 3, 8, 6)
    assert larger["exp_avg_sq"].min() >= 0


def test_the_first_step_of_a_larger_scale_is_as_long_as_the_mean_curvature_of_the_scale_before_says():
    small = LBFGS(STARTS)
    for _ in range(3):
        loss, gradient = valley(small.image)
        small.step(gradient, loss, 0.5)
    curvature = small._curvature.scale
    large = LBFGS(small.image.repeat(1, 1, 2, 2), small)
    before, gradient = large.image, torch.rand_like(large.image) - 0.5
    large.step(1e-4 * gradient, torch.tensor(1.0), 0.5)
    assert curvature > 0
    assert torch.allclose(large.image, (before - 1e-4 * 4 * curvature * gradient).clamp(0, 1))


def test_adam_carries_its_state_to_the_next_scale_and_lbfgs_its_mean_curvature_only():
    for kind in OPTIMISERS.values():
        small = kind(STARTS)
        small.step(*reversed(valley(STARTS)), 0.5)
        large = kind(STARTS.repeat(1, 1, 2, 2), small)
        assert (isinstance(large, Adam) and large.moments["step"].item()) == (kind is Adam)


def test_lbfgs_remembers_fewer_steps_of_a_large_image():
    sizes = {side: history_length(side * side * 3 * 4) for side in (512, 1024, 2048, 4096)}
    assert sizes == {512: 10, 1024: 10, 2048: 3, 4096: 2}


def test_a_change_of_the_loss_leaves_what_does_not_depend_on_it():
    for kind in OPTIMISERS.values():
        changed, fresh = kind(STARTS), kind(STARTS)
        for _ in range(3):
            changed.step(*reversed(valley(changed.image)), 0.5)
        fresh.image = changed.image.clone()
        changed.forget_loss()
        if kind is LBFGS:
            for each in (changed, fresh):
                each.step(*reversed(valley(each.image)), 0.5)
            assert torch.equal(changed.image, fresh.image)
        else:
            assert changed.moments["step"].item() == 3
