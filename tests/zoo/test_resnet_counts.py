"""Every plain ResNet row exact in three columns, and CIFAR's by hand arithmetic."""

import pytest

import zoo
from recipes import model_sizes
from tests.zoo import sizes
from zoo.specs import MultiHeadSpec

COUNTS = sizes.stored("resnet_counts.csv")

# Those of EnsembleNet's Table 1 are counted, and profiled, in test_table_1.py.
PLAIN = [
    name
    for name, spec in zoo.resnet.SPECS.items()
    if not isinstance(spec, MultiHeadSpec) and not name.endswith("resnet152")
]


@pytest.mark.shared_out
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


class Products:
    """Folded parameters, and two FLOPs per multiply-add and nothing else."""

    def __init__(self):
        self.parameters = self.flops = 0

    def conv(self, side, kernel, before, after):
        size = kernel * kernel * before * after
        self.parameters += size + after
        self.flops += 2 * side * side * size

    def stage(self, side, before, units, width, expansion):
        """The stride in the first unit, but for the first stage."""
        start, after = side, expansion * width
        side = side // 2 if width > 16 else side
        for unit in range(units):
            if expansion == 1:
                self.conv(side, 3, before, width)
            else:
                self.conv(side if unit else start, 1, before, width)
            self.conv(side, 3, width, width)
            if expansion > 1:
                self.conv(side, 1, width, after)
            if before != after:
                self.conv(side, 1, before, after)
            before = after
        return side, before


def one(units, expansion, branches):
    """ONE's CIFAR-100 ResNet: the last of three stages and the classifier branch."""
    total = Products()
    total.conv(32, 3, 3, 16)
    fork = total.stage(32, 16, units, 16, expansion)
    fork = total.stage(*fork, units, 32, expansion)
    for _ in range(branches):
        _, channels = total.stage(*fork, units, 64, expansion)
        total.conv(1, 1, channels, 100)
    return total


# Lan et al. 2018, Tables 3 and 4. They have 505M for ResNet-110 and 829M for its three
# branches; the latter rule out basic units, and the former fit neither kind.
ONE = {
    "cifar_resnet32": (5, 1, 1, "138M"),
    "cifar_resnet32_3heads": (5, 1, 3, "228M"),
    "cifar_resnet110": (18, 1, 1, "506M"),
    "cifar_resnet110_bottleneck": (18, 4, 1, "495M"),
    "cifar_resnet110_bottleneck_3heads": (18, 4, 3, "829M"),
}


@pytest.mark.parametrize("name", ONE)
def test_one_by_hand(name):
    *shape, flops = ONE[name]
    total = one(*shape)
    assert model_sizes.printed_like(total.flops, flops) == flops
    if name.endswith("3heads"):
        assert COUNTS[name]["folded"] == total.parameters


def test_three_branches_of_basic_units_are_not_what_one_prints():
    assert model_sizes.printed_like(one(18, 1, 3).flops, "829M") == "842M"


@pytest.mark.parametrize(
    "name",
    [
        *("cifar_resnet32", "cifar_resnet32_3heads"),
        *(
            pytest.param(name, marks=pytest.mark.line("2.21"))
            for name in ONE
            if "110" in name
        ),
    ],
)
def test_one_as_measured(name):
    """By hand without the biases of the classifiers."""
    *shape, _ = ONE[name]
    total, classifiers = one(*shape), 100 * shape[2]
    model = zoo.build(name, classes=100, classifier_activation=None)
    assert sizes.counted(model)["folded"] == total.parameters
    assert model_sizes.products_of(model) == total.flops + classifiers
