import torch

from featviz.transforms import Roll


def test_a_roll_moves_every_pixel_cyclically_and_its_undoing_brings_it_back():
    image = torch.rand(1, 3, 7, 9)
    rolled = Roll(2, -3)(image)
    assert all(torch.equal(rolled[..., (y + 2) % 7, (x - 3) % 9], image[..., y, x]) for y in range(7) for x in range(9))
    assert torch.equal(Roll(2, -3).undo(rolled), image)


def test_random_rolls_stay_within_the_jitter_reach_both_ends_and_follow_the_seed():
    def rolls(seed):
        generator = torch.Generator().manual_seed(seed)
        return [Roll.random(2, generator) for _ in range(200)]

    assert {roll.down for roll in rolls(0)} == {roll.right for roll in rolls(0)} == {-2, -1, 0, 1, 2}
    assert rolls(0) == rolls(0) != rolls(1)
    assert Roll.random(0, torch.Generator()) == Roll(0, 0)
