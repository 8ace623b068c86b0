import numpy as np
import pytest
from PIL import Image

from featviz.media.sheets import GAP, LABEL, captioned, contact_sheet, with_detail


def test_a_row_of_a_contact_sheet_is_as_high_as_its_highest_picture():
    tall, flat = Image.new("RGB", (10, 20), "red"), Image.new("RGB", (10, 5), "blue")
    sheet = contact_sheet([("a", tall), ("b", flat), ("c", flat)], columns=2, width=40)
    assert sheet.size == (40 + GAP + 40, LABEL + 80 + LABEL + 20)
    assert [sheet.getpixel(at) for at in ((0, LABEL), (40 + GAP, LABEL), (0, LABEL + 80 + LABEL))] == [
        (255, 0, 0),
        *[(0, 0, 255)] * 2,
    ]
    assert sheet.getpixel((40 + GAP, LABEL + 20)) == (255, 255, 255)


@pytest.mark.parametrize("width", [160, 640])
def test_a_caption_is_below_the_picture_inside_its_width_and_large_enough_to_be_read(width):
    picture = Image.new("RGB", (width, 100), "red")
    made = np.asarray(captioned(picture, "block9", "layer 10 of 18, a unit sees the whole picture, and a little more"))
    assert (made[:100] == (255, 0, 0)).all()
    written = np.argwhere(made[100:].max(axis=2) > 128)
    rows, columns = written[:, 0], written[:, 1]
    assert columns.min() >= 2
    assert columns.max() < width - 2
    gap = int(np.flatnonzero(~np.isin(np.arange(rows.max()), rows) & (np.arange(rows.max()) > rows.min()))[0])
    assert gap - rows.min() >= max(8, width // 24)  # The height of the title's letters.
    assert rows.max() < len(made) - 101


def test_a_detail_is_the_middle_three_times_as_large_beside_the_picture():
    picture = Image.new("RGB", (90, 60), "blue")
    picture.paste("red", (40, 25, 50, 35))
    made = np.asarray(with_detail(picture)).astype(int)
    assert made.shape == (60, 90 + GAP + 90, 3)
    red = made[..., 0] - made[..., 2] > 0
    assert red[:, :90].sum() == 10 * 10
    assert red[:, 90 + GAP :].sum() == pytest.approx(30 * 30, rel=0.1)
    assert (made[:, 90 : 90 + GAP] == 255).all()
