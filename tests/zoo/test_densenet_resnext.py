"""DenseNet-BC and ResNeXt against forward passes written from their papers."""

import numpy as np
import pytest

import zoo
from ensemble_heads.keras_api import keras
from tests.zoo.image_models import (
    build,
    convolved,
    images,
    normalised,
    relu,
    weights,
)


def densenet(model, x, units):
    def norm_relu_conv(x, norm, conv, **options):
        x = relu(normalised(model, norm, x))
        return convolved(x, *weights(model, conv), **options)

    x = convolved(x, *weights(model, "stem_conv"), padding=1)
    for block in (1, 2, 3):
        for unit in range(1, units + 1):
            at = f"block{block}_unit{unit}"
            y = norm_relu_conv(x, f"{at}_bn1", f"{at}_conv1")
            y = norm_relu_conv(y, f"{at}_bn2", f"{at}_conv2", padding=1)
            x = np.concatenate([x, y], axis=-1)
        if block < 3:
            x = norm_relu_conv(x, f"transition{block}_bn", f"transition{block}_conv")
            x = sum(x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
    x = relu(normalised(model, "top_bn", x)).mean(axis=(1, 2))
    kernel, bias = weights(model, "classifier")
    return x @ kernel + bias


def resnext(model, x, blocks, groups):
    def conv_norm(x, at, index, **options):
        x = convolved(x, *weights(model, f"{at}_conv{index}"), **options)
        return normalised(model, f"{at}_bn{index}", x)

    x = relu(conv_norm(x, "stem", "", padding=1))
    for stage, units in enumerate(blocks, start=1):
        for unit in range(1, units + 1):
            at, stride = f"stage{stage}_unit{unit}", 1 + (stage > 1 and unit == 1)
            y = relu(conv_norm(x, at, 1))
            y = relu(conv_norm(y, at, 2, stride=stride, padding="same", groups=groups))
            y = conv_norm(y, at, 3)
            if y.shape[-1] != x.shape[-1]:
                x = conv_norm(x, f"{at}_shortcut", "", stride=stride)
            x = relu(x + y)
    kernel, bias = weights(model, "classifier")
    return x.mean(axis=(1, 2)) @ kernel + bias


@pytest.mark.parametrize(
    "name, changes, forward",
    [
        ("densenet_bc_100_12", {}, lambda model, x: densenet(model, x, 2)),
        (
            "densenet_bc_100_12",
            {"depth": 10, "growth": 3, "compression": 0.7},
            lambda model, x: densenet(model, x, 1),
        ),
        ("resnext29_8x64d", {}, lambda model, x: resnext(model, x, (1, 2, 1), 4)),
        (
            "resnext29_8x64d",
            {"blocks": (2, 2), "widths": (12, 18), "outputs": (10, 14), "groups": 3},
            lambda model, x: resnext(model, x, (2, 2), 3),
        ),
    ],
)
def test_forward_pass(name, changes, forward):
    model = build(name, classifier_activation=None, **changes)
    x = images(model)
    exact = forward(model, x.astype("float64"))
    assert np.std(exact) > 0.05
    scale = np.abs(exact).max()
    np.testing.assert_allclose(model(x), exact, rtol=1e-3, atol=1e-4 * scale)
    if name.startswith("densenet"):
        theta = changes.get("compression", 0.5)
        channels = model.get_layer("block1").output.shape[-1]
        after = model.get_layer("transition1").output.shape[-1]
        assert after == int(channels * theta)


def test_initial_weights_of_densenet():
    model = zoo.build("densenet_bc_100_12")
    for name, area_times_outputs in (
        ("stem_conv", 9 * 24),
        ("block2_unit5_conv1", 48),
        ("block2_unit5_conv2", 9 * 12),
        ("transition1_conv", 108),
    ):
        kernel = model.get_layer(name).get_weights()[0]
        expected = np.sqrt(2 / area_times_outputs)
        assert np.std(kernel) == pytest.approx(expected, rel=0.1)
    kernel, bias = model.get_layer("classifier").get_weights()
    limit = kernel.shape[0] ** -0.5
    assert 0.95 * limit < np.abs(kernel).max() <= limit
    np.testing.assert_array_equal(bias, 0)


def test_published_shapes():
    model = zoo.build("resnext29_8x64d")
    grouped = model.get_layer("stage1_unit1_conv2")
    assert grouped.groups == 8 and grouped.filters == 8 * 64
    sides = {"stage1": (32, 256), "stage2": (16, 512), "stage3": (8, 1024)}
    for name, (side, channels) in sides.items():
        shape = tuple(model.get_layer(name).output.shape)
        assert shape == (None, side, side, channels)
    kernels = [one for one in model.layers if isinstance(one, keras.layers.Conv2D)]
    shortcuts = [one for one in kernels if "shortcut" in one.name]
    assert len(kernels) - len(shortcuts) + 1 == 29 and len(shortcuts) == 3


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("densenet_bc_100_12", {"depth": 99}, r"`depth` must be 6 n \+ 4 .*depth=99"),
        ("densenet_bc_100_12", {"depth": 4}, "n >= 1. Received: depth=4"),
        ("densenet_bc_100_12", {"growth": 0}, "`growth` must be a positive integer"),
        ("densenet_bc_100_12", {"compression": 0}, r"must be in \(0, 1\]"),
        ("resnext29_8x64d", {"groups": 7}, "`groups` must divide the widths"),
        ("resnext29_8x64d", {"groups": 0}, "`groups` must be a positive integer"),
        ("resnext29_8x64d", {"outputs": (3,)}, "must have one entry per stage, 3"),
        ("cifar_resnet20", {"groups": 2}, "`groups` must be 1 for basic units"),
        ("cifar_resnet20", {"outputs": (3, 3, 3)}, "`outputs` must be None for basic"),
    ],
)
def test_errors(name, changes, message):
    with pytest.raises(ValueError, match=message):
        zoo.build(name, **changes)
