"""EnsembleNet's Table 1: sizes exact, equal to a sum by hand and to the print."""

import pytest

import ensemble_heads as eh
import zoo
from recipes import model_sizes
from tests.zoo import sizes

COUNTS = sizes.stored("resnet_counts.csv")

# Row: widths above the fork, heads, million parameters folded, billion FLOPs.
TABLE_1 = {
    "resnet152": ((256, 512), 1, "60.117", "21.848"),
    "resnet152_2heads": ((176, 352), 2, "58.161", "21.033"),
    "se_resnet152": ((256, 512), 1, "66.746", "21.886"),
    "se_resnet152_2heads": ((176, 352), 2, "64.463", "21.075"),
}


def table_1(widths, heads, se):
    """ResNet-152 with the given widths above stage 2."""
    total = sizes.Sum()
    total.conv(112, 7, 3, 64)
    total.flops += 9 * 56 * 56 * 64
    side, channels = total.stage(56, 64, 3, 64, se, stride=2)
    fork = total.stage(side, channels, 8, 128, se, stride=2)
    for _ in range(heads):
        side, channels = total.stage(*fork, 36, widths[0], se, stride=2)
        side, channels = total.stage(side, channels, 3, widths[1], se)
        total.classifier(side, channels, 1000)
    return total


@pytest.mark.parametrize("name", TABLE_1)
def test_table_1_by_hand(name):
    widths, heads, parameters, flops = TABLE_1[name]
    total = table_1(widths, heads, name.startswith("se"))
    assert COUNTS[name]["folded"] == total.parameters
    assert f"{total.parameters / 1e6:.3f}" == parameters
    assert f"{total.flops / 1e9:.3f}" == flops


@pytest.mark.line("2.21")
@pytest.mark.parametrize("name", TABLE_1)
def test_table_1_as_measured(name):
    model = zoo.build(name)
    assert sizes.counted(model) == COUNTS[name]
    profile = eh.profile(model)
    by_hand = table_1(*TABLE_1[name][:2], name.startswith("se"))
    assert profile.parameters == by_hand.parameters
    # By hand without the softmax and the average of the heads, some 10 per class.
    assert 0 <= profile.flops - by_hand.flops <= 20_000
    row = next(row for row in model_sizes.ROWS if row.model == name)
    cells = model_sizes.compare(row, profile)
    assert [cell.verdict for cell in cells] == ["reproduced"] * 2
