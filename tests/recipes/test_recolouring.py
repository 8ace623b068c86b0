"""Recolouring: edges stay, and colours become those of the style."""

import torch

from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.optimise.scaling import fit, resize
from featviz.recipes import presets
from featviz.recipes.style_transfer import StyleTransfer

CAT, WAVE, TERRACE = (to_tensor(open_picture(presets.FOLDER / f"{name}.jpg")) for name in ("cat", "great_wave", "cafe_terrace"))
RECOLOURED = {"network": "efficientnet_lite0", "size": 160, "steps": 12, "repaint": "colours"}


def last(recipe, content=CAT, style=WAVE, **options):
    *_, frame = recipe.run(load(recipe.network), content=content, style=style, **options)
    return frame


def half(value=1.0):
    """A mask that is white on the left."""
    mask = torch.zeros(1, 3, 40, 60)
    mask[..., :30] = value
    return mask


def edges(image):
    grey = image.mean(1)
    return torch.cat([grey.diff(dim=1).flatten(), grey.diff(dim=2).flatten()]).abs()


def test_where_only_colours_change_edges_stay_and_colours_are_those_of_the_style_at_any_size():
    small, large, painted = (
        last(StyleTransfer(**RECOLOURED | changes), style=TERRACE).image for changes in ({}, {"size": 640}, {"repaint": "pixels"})
    )
    content = fit(CAT, 160, 32)
    kept = [torch.corrcoef(torch.stack([edges(image), edges(content)]))[0, 1] for image in (small, painted)]
    assert kept[0] > 0.9 > kept[1]
    means = [image.mean((2, 3)) for image in (small, content, TERRACE)]
    assert (means[0] - means[2]).abs().mean() < 0.6 * (means[1] - means[2]).abs().mean()
    assert max(large.shape) == 640
    assert (resize(large, small.shape[-2:]) - small).abs().mean() < 0.03


def test_an_even_sky_stays_even_where_only_colours_change():
    sky = fit(CAT, 160, 32).clone()
    sky[..., :60, :] = torch.tensor([0.3, 0.5, 0.8]).view(1, 3, 1, 1)
    result = last(StyleTransfer(**RECOLOURED), content=sky, style=WAVE).image
    assert max(result[..., :50, :].diff(dim=side).abs().max() for side in (-1, -2)) < 0.02
    assert (result - sky)[..., :50, :].abs().mean() > 0.1


def test_colours_change_only_inside_the_mask_and_a_panorama_and_an_even_style_give_pictures():
    content = fit(CAT, 160, 32)
    result = last(StyleTransfer(**RECOLOURED, feather=0), mask=half()).image
    assert torch.equal(result[..., 84:], content[..., 84:])
    assert (result - content)[..., :76].abs().mean() > 0.05
    few = StyleTransfer(**RECOLOURED | {"size": 640, "steps": 2})
    for options in ({"content": resize(CAT, (40, 640)).clamp(0, 1)}, {"style": torch.full((1, 3, 64, 64), 0.5)}):
        assert last(few, **options).image.isfinite().all()


def test_the_frames_of_a_shot_have_the_colours_of_its_first():
    recipe, other = StyleTransfer(**RECOLOURED | {"steps": 3}), CAT.flip(-1)
    frames_of = recipe.follower(load(recipe.network), content=CAT, style=TERRACE)
    first, second, cut = (list(frames_of(picture, before)) for picture, before in ((CAT, None), (other, "before"), (other, None)))
    assert [len(frames) for frames in (first, second, cut)] == [3, 1, 3]
    assert torch.equal(first[-1].image, last(recipe, style=TERRACE).image)
    assert second[0].step == second[0].steps == 1
    assert 0 < (second[0].image - cut[-1].image).abs().mean() < 0.1
