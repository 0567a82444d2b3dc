"""CIFAR10-Quick, CaffeNet and Network in Network against Caffe's definitions."""

import numpy as np
import pytest

import zoo
from tests.zoo.image_models import build, caffe_pooled, convolved, images, relu, weights


def layer(model, name, x, **options):
    kernel, bias = weights(model, name)
    if kernel.ndim == 2:
        return x @ kernel + bias
    return convolved(x, kernel, **options) + bias


def quick(model, x):
    x = relu(caffe_pooled(layer(model, "conv1", x, padding=2), np.max))
    x = caffe_pooled(relu(layer(model, "conv2", x, padding=2)), np.mean)
    x = caffe_pooled(relu(layer(model, "conv3", x, padding=2)), np.mean)
    x = layer(model, "ip1", x.reshape(len(x), -1))
    return layer(model, "ip2", x)


def locally_normalised(x):
    squares = np.zeros_like(x)
    for channel in range(x.shape[-1]):
        near = x[..., max(0, channel - 2) : channel + 3]
        squares[..., channel] = np.sum(near**2, axis=-1)
    return x / (1 + 1e-4 / 5 * squares) ** 0.75


def caffenet(model, x):
    x = relu(layer(model, "conv1", x, stride=4))
    x = locally_normalised(caffe_pooled(x, np.max))
    x = relu(layer(model, "conv2", x, padding=2, groups=2))
    x = locally_normalised(caffe_pooled(x, np.max))
    x = relu(layer(model, "conv3", x, padding=1))
    x = relu(layer(model, "conv4", x, padding=1, groups=2))
    x = relu(layer(model, "conv5", x, padding=1, groups=2))
    x = caffe_pooled(x, np.max).reshape(len(x), -1)
    x = relu(layer(model, "fc6", x))
    return layer(model, "fc8", relu(layer(model, "fc7", x)))


def nin(model, x, first):
    for block in (1, 2, 3):
        options = first if block == 1 else {"padding": 1}
        x = relu(layer(model, f"conv{block}", x, **options))
        x = relu(layer(model, f"cccp{2 * block - 1}", x))
        x = relu(layer(model, f"cccp{2 * block}", x))
        if block < 3:
            x = caffe_pooled(x, np.max)
    return x.mean(axis=(1, 2))


FORWARD = {
    "cifar10_quick": quick,
    "caffenet": caffenet,
    "nin_cifar": lambda model, x: nin(model, x, {"padding": 2}),
    "nin_imagenet": lambda model, x: nin(model, x, {"stride": 4}),
}


@pytest.mark.parametrize("name", FORWARD)
def test_forward_pass(name):
    logits = build(name, classifier_activation=None)
    x = images(logits)
    # Responses so large that their normalisation matters.
    x = x * 100 if name == "caffenet" else x
    exact = FORWARD[name](logits, x.astype("float64"))
    assert np.std(exact) > 0.05
    np.testing.assert_allclose(
        logits(x), exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max()
    )
    model = build(name)
    odds = np.exp(exact - exact.max(axis=1, keepdims=True))
    expected = odds / odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model(x), expected, rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize("side", [14, 15])
def test_poolings_end_as_in_caffe(side):
    """Of 14 pixels the last window of 3 reaches over the edge, of 15 none does."""
    model = zoo.build("cifar10_quick", input_shape=(4 * side, 4 * side, 3))
    assert model.get_layer("pool1").output.shape[1] == 2 * side
    caffenet = zoo.build("caffenet", input_shape=(4 * side + 7, 4 * side + 7, 3))
    assert caffenet.get_layer("conv1").output.shape[1] == side
    assert caffenet.get_layer("pool1").output.shape[1] == 7


def test_sizes_of_images_in_caffenet_and_nin():
    for name, sides in (
        ("caffenet", {"conv1": 55, "pool1": 27, "pool2": 13, "conv5": 13, "pool5": 6}),
        ("nin_imagenet", {"conv1": 54, "pool1": 27, "pool2": 13, "pool3": 6}),
        ("nin_cifar", {"conv1": 32, "pool1": 16, "pool2": 8, "cccp6": 8}),
        ("cifar10_quick", {"conv1": 32, "pool1": 16, "pool2": 8, "pool3": 4}),
    ):
        model = zoo.build(name)
        for place, side in sides.items():
            assert tuple(model.get_layer(place).output.shape)[1:3] == (side, side)


# Standard deviations of kernels and biases, by the prototxts.
DRAWN = {
    "cifar10_quick": {
        "conv1": (1e-4, 0),
        **dict.fromkeys(("conv2", "conv3"), (0.01, 0)),
        **dict.fromkeys(("ip1", "ip2"), (0.1, 0)),
    },
    "caffenet": {
        **dict.fromkeys(("conv1", "conv3", "fc8"), (0.01, 0)),
        **dict.fromkeys(("conv2", "conv4", "conv5"), (0.01, 1)),
        **dict.fromkeys(("fc6", "fc7"), (0.005, 1)),
    },
    "nin_cifar": {
        "conv1": (0.001, 0),
        **dict.fromkeys(("cccp1", "cccp2"), (0.01, 0)),
        **{f"cccp{k}": (0.05, 0) for k in (3, 4, 5, 6)},
        **dict.fromkeys(("conv2", "conv3"), (0.05, 0)),
    },
    "nin_imagenet": {
        **dict.fromkeys(("conv1", "conv3", "cccp8"), (0.01, 0)),
        **dict.fromkeys(("conv2", "conv4"), (0.05, 0)),
        **{f"cccp{k}": (0.05, 0) for k in (1, 2, 3, 4, 5, 6, 7)},
    },
}


@pytest.mark.parametrize("name", DRAWN)
def test_initial_weights(name):
    model = zoo.build(name)
    drawn = {
        one.name: one.get_weights()
        for one in model.layers
        if len(one.get_weights()) == 2
    }
    assert drawn.keys() == DRAWN[name].keys()
    for place, (stddev, constant) in DRAWN[name].items():
        kernel, bias = drawn[place]
        assert np.std(kernel) == pytest.approx(stddev, rel=0.1), place
        np.testing.assert_array_equal(bias, constant)
    assert not np.allclose(*(list(drawn.values())[k][0].ravel()[:99] for k in (-1, -2)))


@pytest.mark.parametrize(
    "name, dropped",
    [
        ("cifar10_quick", {}),
        ("caffenet", {"drop6": 0.5, "drop7": 0.5}),
        ("nin_cifar", {"drop1": 0.5, "drop2": 0.5}),
        ("nin_imagenet", {"drop3": 0.5}),
    ],
)
def test_dropout(name, dropped):
    model = zoo.build(name)
    rates = {one.name: one.rate for one in model.layers if hasattr(one, "rate")}
    assert rates == dropped


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("cifar10_quick", {"filters": (3, 3)}, "one entry per convolution, 3. Rec"),
        ("cifar10_quick", {"filters": (3, 3, 0)}, "hold positive integers. Received"),
        ("cifar10_quick", {"hidden": 0}, "`hidden` must be a positive integer"),
        (
            "cifar10_quick",
            {"input_shape": (31, 32, 3)},
            "both even or both odd.*31 x",
        ),
        ("cifar10_quick", {"input_shape": (4, 4, 3)}, "at least 3, .*2 x 2 before"),
        ("cifar10_quick", {"input_shape": (None, 32, 3)}, r"be \(height, width, chan"),
        ("cifar10_quick", {"weight_decay": -1}, "`weight_decay` must not be negative"),
        ("caffenet", {"filters": (8,) * 4}, "have one entry per convolution, 5"),
        ("caffenet", {"hidden": (8,)}, "have one entry per dense layer, 2"),
        ("caffenet", {"groups": 5}, "`groups` must divide the filters"),
        ("caffenet", {"dropout": 1}, r"`dropout` must be in \[0, 1\). Received: drop"),
        ("nin_cifar", {"blocks": ()}, "last of which ends in None filters"),
        ("nin_cifar", {"classes": 0}, "`classes` must be a positive integer"),
    ],
)
def test_errors(name, changes, message):
    with pytest.raises(ValueError, match=message):
        zoo.build(name, **changes)
