"""How an image moves."""

import torch

from featviz.style import resized


def test_adams_state_is_resized_and_its_step_and_signs_kept():
    moments = {"step": torch.tensor(9.0), "exp_avg": torch.full((1, 3, 4, 4), -0.5), "exp_avg_sq": torch.rand(1, 3, 4, 4)}
    larger = resized(moments, (8, 6))
    assert larger["step"] == 9
    assert torch.allclose(larger["exp_avg"], torch.tensor(-0.5))
    assert larger["exp_avg"].shape == larger["exp_avg_sq"].shape == (1, 3, 8, 6)
    assert larger["exp_avg_sq"].min() >= 0
