import io

import pytest
import torch
from PIL import Image, ImageColor

from featviz.errors import InputError
from featviz.media.images import to_tensor
from featviz.optimise.regions import MOST_REGIONS, colour_regions, matched


def painted(width=40, height=30):
    """White on the left, red on the right, and a blue bar below."""
    picture = Image.new("RGB", (width, height), "white")
    picture.paste((255, 0, 0), (width // 2, 0, width, height))
    picture.paste((0, 0, 255), (0, height * 4 // 5, width, height))
    return picture


def test_regions_are_disjoint_cover_everything_and_start_with_the_brightest():
    regions = colour_regions(to_tensor(painted()), (30, 40))
    assert list(regions) == ["white", "blue", "red"]
    assert torch.equal(sum(regions.values()), torch.ones(1, 1, 30, 40))
    assert regions["red"][0, 0, :24, 20:].all()
    assert regions["red"].sum() == 24 * 20


def test_each_pixel_has_the_region_that_a_loop_over_pixels_and_colours_finds():
    """Noise adds rare colours, which have no region."""
    image = to_tensor(painted(60, 45))
    image = (image + 0.09 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    regions = colour_regions(image, (45, 60))
    for row in range(45):
        for column in range(60):
            pixel = [255 * value for value in image[0, :, row, column].tolist()]
            apart = {
                name: sum((value - of) ** 2 for value, of in zip(pixel, ImageColor.getrgb(name), strict=True)) for name in regions
            }
            (chosen,) = [name for name, region in regions.items() if region[0, 0, row, column]]
            assert apart[chosen] <= min(apart.values()) + 0.1


def test_a_jpeg_soft_edges_and_another_size_keep_the_regions():
    file = io.BytesIO()
    painted(400, 300).resize((200, 150), Image.Resampling.BICUBIC).save(file, "JPEG", quality=60)
    regions, exact = (colour_regions(to_tensor(image), (60, 80)) for image in (Image.open(file), painted()))
    assert {*regions} == {*exact}
    assert all((regions[name] != exact[name]).float().mean() < 0.05 for name in exact)


def test_an_even_image_is_one_region_of_the_nearest_named_colour():
    assert list(colour_regions(torch.full((1, 3, 4, 5), 0.45), (4, 5))) == ["grey"]


def test_a_photograph_is_refused_with_the_number_of_its_colours():
    noise = torch.rand(1, 3, 60, 60, generator=torch.Generator().manual_seed(0))
    many = (
        torch.cartesian_prod(*3 * (torch.tensor([0, 0.5, 1]),)).T.view(1, 3, 1, 27).repeat_interleave(4, 3).expand(-1, -1, 40, -1)
    )
    for image, count in ((noise, 0), (many, 27)):
        with pytest.raises(InputError, match=f"has {count} areas of even colour; expected 2 to {MOST_REGIONS} colours"):
            colour_regions(image, (40, 108))


def columns(*names):
    """An image (1, 3, 12, 24) with an area of each colour, from left to right."""
    picture = Image.new("RGB", (24, 12))
    for number, name in enumerate(names):
        picture.paste(name, (number * 24 // len(names), 0, 24, 12))
    return to_tensor(picture)


def opaque_columns(styles):
    """For each style, the columns of it that are used."""
    return [None if part is None else part[0, 0, 0].nonzero().flatten().tolist() for _, part in styles]


LEFT, RIGHT, ALL = [*range(12)], [*range(12, 24)], [*range(24)]


@pytest.mark.parametrize(
    ("painted", "painted_style", "parts"),
    [
        (("lime", "black"), ("lime", "red"), [LEFT, RIGHT]),
        (("lime", "black"), ("red", "red", "red", "lime"), [[*range(18, 24)], [*range(18)]]),
        (("lime", "red"), ("lime", "black"), [LEFT, RIGHT]),
        (("lime", "black"), ("lime", "red", "black", "black"), [[*range(6)], RIGHT]),
    ],
)
def test_what_is_not_painted_in_one_picture_goes_with_what_the_other_regions_leave(painted, painted_style, parts):
    """Where both have something that is not painted, these go together, and a colour of the style alone is not used."""
    _, styles = matched(columns(*painted), columns(*painted_style), [(torch.ones(1, 3, 12, 24), None)], (12, 24))
    assert opaque_columns(styles) == parts


def test_regions_that_the_first_style_lacks_have_the_styles_after_it():
    first, second, third = (torch.full((1, 3, 12, 24), value) for value in (0.2, 0.5, 0.8))
    painted = columns("red", "black", "white")
    where, styles = matched(painted, columns("black", "black"), [(first, None), (second, None), (third, None)], (12, 24))
    assert [image[0, 0, 0, 0].item() for image, _ in styles] == pytest.approx([0.5, 0.8, 0.2])  # White, red, black.
    assert opaque_columns(styles) == [None, None, ALL]
    assert where[0, :, 0, ::8].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
