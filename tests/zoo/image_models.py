"""What tests of the other papers' image models share: small models, and images."""

import numpy as np

import zoo
from ensemble_heads.keras_api import keras
from tests.zoo.batch_norms import scatter_batch_norm
from zoo.nin import MLPConv

CLASSES = 7


def small_blocks(stride, padding):
    """Three blocks of different widths; the first as the row has it."""
    deviations = (0.05,) * 3
    return (
        MLPConv((8, 6, 10), 5, deviations, stride, padding, dropout=0.5),
        MLPConv((6, 8, 12), 3, deviations),
        MLPConv((10, 6, None), 3, deviations),
    )


# The row that a small model is made from, and what is smaller.
SMALL = {
    "cifar10_quick": {"filters": (6, 8, 10), "hidden": 12, "input_shape": (16, 16, 3)},
    "nin_cifar": {"blocks": small_blocks(1, "same"), "input_shape": (12, 12, 3)},
    "nin_imagenet": {"blocks": small_blocks(4, "valid"), "input_shape": (31, 31, 3)},
    "caffenet": {
        "filters": (8, 8, 12, 12, 8),
        "hidden": (16, 12),
        "input_shape": (67, 67, 3),
    },
    "mlp_1m_1024h": {"hidden": (12,), "input_shape": (6, 5, 1)},
    "small_cnn": {"filters": (4, 6, 6, 8, 8), "input_shape": (26, 26, 3)},
    "densenet_bc_100_12": {"depth": 16, "growth": 4, "input_shape": (8, 8, 3)},
    "resnext29_8x64d": {
        "blocks": (1, 2, 1),
        "widths": (8, 16, 16),
        "outputs": (8, 12, 16),
        "groups": 4,
        "stem_width": 6,
        "input_shape": (8, 8, 3),
    },
}


def build(name, seed=3, **changes):
    """A small model of a row, with weights at which every part of it matters."""
    model = zoo.build(name, **{**SMALL[name], "classes": CLASSES, **changes})
    return scatter(model, seed)


def scatter(model, seed=3):
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            scatter_batch_norm(layer, rng)
        elif layer.weights:
            layer.set_weights([_draw(rng, w.shape) for w in layer.get_weights()])
    return model


def _draw(rng, shape):
    inputs = np.prod(shape[:-1]) if len(shape) > 1 else 10
    return rng.normal(0.0, 1.4 / np.sqrt(inputs), shape)


def images(model, batch=4, seed=0):
    """Images `[batch, height, width, channels]` of the size that a model takes."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.2, 1.0, (batch, *model.input_shape[1:])).astype("float32")


def weights(model, name):
    """Weights of a layer, in float64."""
    return [w.astype("float64") for w in model.get_layer(name).get_weights()]


def convolved(x, kernel, stride=1, padding=0, groups=1):
    """A convolution by sums over the kernel's places, in float64.

    Args:
        padding: on all sides; or "same", where an odd one comes after the image.
    """
    side, _, width, filters = kernel.shape
    margins = [(padding, padding)] * 2
    if padding == "same":
        ends = [(n - 1) // stride * stride + side for n in x.shape[1:3]]
        short = [max(end - n, 0) for end, n in zip(ends, x.shape[1:3])]
        margins = [(n // 2, n - n // 2) for n in short]
    x = np.pad(x, [(0, 0), *margins, (0, 0)])
    height, breadth = ((n - side) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((len(x), height, breadth, filters))
    share = filters // groups
    for group in range(groups):
        columns = slice(group * share, (group + 1) * share)
        part = x[..., group * width : (group + 1) * width]
        for i in range(side):
            for j in range(side):
                rows = slice(i, i + stride * (height - 1) + 1, stride)
                places = slice(j, j + stride * (breadth - 1) + 1, stride)
                taken = part[:, rows, places]
                out[..., columns] += taken @ kernel[i, j][:, columns]
    return out


def caffe_pooled(x, reduce):
    """Windows of 3 in steps of 2, as many as Caffe counts; what sticks out is cut.

    Args:
        x: `[batch, height, width, channels]`.
        reduce: `np.max` or `np.mean`.
    """
    counts = [int(np.ceil((side - 3) / 2)) + 1 for side in x.shape[1:3]]
    windows = [
        [
            reduce(x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3], axis=(1, 2))
            for j in range(counts[1])
        ]
        for i in range(counts[0])
    ]
    return np.moveaxis(np.array(windows), 2, 0)


def normalised(model, name, x, epsilon=1e-5):
    """A batch norm at inference, in float64."""
    gamma, beta, mean, variance = weights(model, name)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def relu(x):
    return np.maximum(x, 0)
