"""Sizes of zoo rows: as stored, as counted from a model, and summed by hand."""

import csv
import math
from pathlib import Path

import ensemble_heads as eh
from ensemble_heads.keras_api import keras

COLUMNS = ("trainable", "total", "folded")


def stored(file_name):
    """{row: {column: count}} of a table beside this file."""
    path = Path(__file__).with_name(file_name)
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["name"]: {key: int(row[key]) for key in COLUMNS} for row in rows}


def counted(model):
    """The three counts of a model, by arithmetic over its layers."""
    counts = (size(model.trainable_weights), size(model.weights), folded_size(model))
    return dict(zip(COLUMNS, counts, strict=True))


def profiled(model):
    """The three counts of a model, what is folded as `eh.profile` finds it."""
    folded = eh.profile(model).parameters
    counts = (size(model.trainable_weights), size(model.weights), folded)
    return dict(zip(COLUMNS, counts, strict=True))


def size(weights):
    return sum(math.prod(weight.shape) for weight in weights)


def folded_size(model):
    """A bias per channel in place of each batch norm, the statistics left out."""
    parts = [model.trunk, *model.heads] if hasattr(model, "heads") else [model]
    return sum(
        layer.gamma.shape[0]
        if isinstance(layer, keras.layers.BatchNormalization)
        else size(layer.weights)
        for part in parts
        for layer in part.layers
    )


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
