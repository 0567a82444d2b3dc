"""Every plain ResNet row exact in three columns, and CIFAR's by hand arithmetic."""

import pytest

import zoo
from tests.zoo import sizes
from zoo.specs import MultiHeadSpec

COUNTS = sizes.stored("resnet_counts.csv")

# Those of EnsembleNet's Table 1 are counted, and profiled, in test_table_1.py.
PLAIN = [
    name
    for name, spec in zoo.resnet.SPECS.items()
    if not isinstance(spec, MultiHeadSpec) and not name.endswith("resnet152")
]


@pytest.mark.parametrize("name", PLAIN)
def test_counts(name):
    """The ImageNet rows' trainable counts without SE are also those of torchvision."""
    assert sizes.counted(zoo.build(name)) == COUNTS[name]


def test_every_row_has_its_counts():
    assert list(COUNTS) == list(zoo.resnet.SPECS)


def cifar(units):
    """He et al.'s CIFAR ResNet with projections and the stride in the first unit."""
    total = sizes.Sum()
    total.conv(32, 3, 3, 16)
    channels = 16
    for side, width in ((32, 16), (16, 32), (8, 64)):
        # The first convolution of a strided unit already works at the new resolution.
        side, channels = total.stage(side, channels, units, width, expansion=1)
    total.classifier(side, channels, 10)
    return total


@pytest.mark.parametrize(
    "name, units, parameters, flops",
    [("cifar_resnet32", 5, 0.5e6, 1.38e8), ("cifar_resnet110", 18, 1.7e6, 5.06e8)],
)
def test_cifar_by_hand(name, units, parameters, flops):
    """Printed by Lan et al. 2018 (ONE), Tables 1, 3, 4; FLOPs of basic units."""
    total = cifar(units)
    assert COUNTS[name]["folded"] == total.parameters
    assert total.parameters == pytest.approx(parameters, rel=0.07)
    assert total.flops == pytest.approx(flops, rel=0.01)
