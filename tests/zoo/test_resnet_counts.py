"""Every ResNet row exact in three columns, and Table 1 against hand arithmetic."""

import csv
import functools
import math
from pathlib import Path

import pytest

import zoo
from ensemble_heads.keras_api import keras

with open(Path(__file__).with_name("resnet_counts.csv"), encoding="utf-8") as file:
    COUNTS = {row["name"]: row for row in csv.DictReader(file)}


@functools.lru_cache(maxsize=1)  # the models are large: one at a time
def build(name):
    return zoo.build(name)


def size(weights):
    return sum(math.prod(weight.shape) for weight in weights)


def folded_size(model):
    """A bias per channel in place of each batch norm, the statistics left out."""
    parts = [model.trunk, *model.heads] if "heads" in model.name else [model]
    return sum(
        layer.gamma.shape[0]
        if isinstance(layer, keras.layers.BatchNormalization)
        else size(layer.weights)
        for part in parts
        for layer in part.layers
    )


@pytest.mark.parametrize("name", zoo.resnet.SPECS)
def test_counts(name):
    """The plain ImageNet rows' trainable counts are also those of torchvision."""
    model = build(name)
    counted = (size(model.trainable_weights), size(model.weights), folded_size(model))
    assert counted == tuple(
        int(COUNTS[name][key]) for key in ("trainable", "total", "folded")
    )


def test_every_row_has_its_counts():
    assert list(COUNTS) == list(zoo.resnet.SPECS)


class Sum:
    """Parameters and FLOPs by the profiler's rules: two per multiply-add, one per
    element of a bias, addition, product or mean, the window per output of a max pool.
    """

    def __init__(self):
        self.parameters = self.flops = 0

    def conv(self, side, kernel, before, after):
        self.parameters += kernel * kernel * before * after + after
        self.flops += side * side * after * (2 * kernel * kernel * before + 1)

    def stage(self, side, before, units, width, se=False, stride=1, expansion=4):
        """Units of a stage, the stride in the last; returns side and channels after."""
        after = expansion * width
        for unit in range(units):
            end = side // stride if unit == units - 1 else side
            if expansion == 4:
                self.conv(side, 1, before, width)
                self.conv(end, 3, width, width)
                self.conv(end, 1, width, after)
            else:
                self.conv(side, 3, before, width)
                self.conv(end, 3, width, width)
            if before != after:
                self.conv(end, 1, before, after)
            elif end != side:
                self.flops += end * end * after  # 1x1 max pool
            if se:
                self.flops += 2 * end * end * after  # mean, product
                self.conv(1, 1, after, after // 16)
                self.conv(1, 1, after // 16, after)
            self.flops += end * end * after  # addition
            side, before = end, after
        return side, before

    def classifier(self, side, channels, classes):
        self.flops += side * side * channels
        self.conv(1, 1, channels, classes)


def table_1(widths, heads, se):
    """ResNet-152 with the given widths above stage 2."""
    total = Sum()
    total.conv(112, 7, 3, 64)
    total.flops += 9 * 56 * 56 * 64
    side, channels = total.stage(56, 64, 3, 64, se, stride=2)
    fork = total.stage(side, channels, 8, 128, se, stride=2)
    for _ in range(heads):
        side, channels = total.stage(*fork, 36, widths[0], se, stride=2)
        side, channels = total.stage(side, channels, 3, widths[1], se)
        total.classifier(side, channels, 1000)
    return total


@pytest.mark.parametrize(
    "name, widths, heads, parameters, flops",
    [
        ("resnet152", (256, 512), 1, "60.117", "21.848"),
        ("resnet152_2heads", (176, 352), 2, "58.161", "21.033"),
        ("se_resnet152", (256, 512), 1, "66.746", "21.886"),
        ("se_resnet152_2heads", (176, 352), 2, "64.463", "21.075"),
    ],
)
def test_table_1_by_hand(name, widths, heads, parameters, flops):
    total = table_1(widths, heads, name.startswith("se"))
    assert int(COUNTS[name]["folded"]) == total.parameters
    assert f"{total.parameters / 1e6:.3f}" == parameters
    assert f"{total.flops / 1e9:.3f}" == flops


def cifar(units):
    """He et al.'s CIFAR ResNet with projections and the stride in the first unit."""
    total = Sum()
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
    assert int(COUNTS[name]["folded"]) == total.parameters
    assert total.parameters == pytest.approx(parameters, rel=0.07)
    assert total.flops == pytest.approx(flops, rel=0.01)
