"""A model to make trees of, and the ways to a tree's heads as plain Keras models."""

import numpy as np

import ensemble_heads as eh
from ensemble_heads.keras_api import keras

layers = keras.layers
# Lists for `fork_at`, and the way to every head.
TREES = {
    "binary": (
        ["stage1", "stage2"],
        [("trunk", f"branch_{i}", f"branch_{i}.{j}") for i in (0, 1) for j in (0, 1)],
    ),
    "nested": (
        ["stage1", ["stage2", None], [None, "stage3"]],
        [
            ("trunk", "branch_0", "branch_0.0"),
            ("trunk", "branch_0", "branch_0.1", "branch_0.1.0"),
            ("trunk", "branch_0", "branch_0.1", "branch_0.1.1"),
            ("trunk", "branch_1"),
        ],
    ),
    "different depths": (
        ["image", ["stage1", "stage3"]],
        [("trunk", f"branch_{i}", f"branch_{i}.{j}") for i in (0, 1) for j in (0, 1)],
    ),
}


def convolutional():
    """Three stages of convolution and batch norm, the second one residual."""
    image = keras.Input((6, 6, 3), name="image")
    x = image
    for number, width in enumerate((4, 6, 8), start=1):
        y = layers.Conv2D(width, 3, padding="same", name=f"conv{number}")(x)
        y = layers.BatchNormalization(name=f"norm{number}", momentum=0.5)(y)
        if number == 2:
            y = layers.Add(name="add")([y, layers.Conv2D(width, 1, name="project")(x)])
        x = layers.ReLU(name=f"stage{number}")(y)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(5, activation="softmax", name="out")(x)
    return keras.Model(image, x, name="single")


def images(examples=6):
    return np.random.normal(size=(examples, 6, 6, 3)).astype("float32")


def parts(model):
    """{name: part}, the trunk among them."""
    return {part.name: part for part in [model.trunk, *model.wrapper.layout.parts]}


def plain(model, way, make=convolutional):
    """The single model with the weights of some parts of a tree, by layers' names."""
    single = make()
    found = parts(model)
    named = {layer.name: layer for name in way for layer in found[name].layers}
    for layer in single.layers:
        if layer.weights:
            layer.set_weights(named[layer.name].get_weights())
    return single


def tree(fork_at=("stage1", ["stage2", None]), num_heads=2, **options):
    return eh.multi_head(convolutional(), list(fork_at), num_heads, **options)


def costs(model, **options):
    """{branch: parameters}, checked to sum to the totals of the profile."""
    result = eh.profile(model, **options)
    assert sum(b.parameters for b in result.branches) == result.parameters
    assert sum(b.flops for b in result.branches) == result.flops
    assert all(b.name in str(result) for b in result.branches)
    return {branch.name: branch.parameters for branch in result.branches}
