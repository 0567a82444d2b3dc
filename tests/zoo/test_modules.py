"""The perceptrons and the small network of joint training, single and as modules."""

import numpy as np
import pytest

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from tests.zoo.image_models import build, convolved, images, relu, scatter, weights


def perceptron(model, x):
    kernel, bias = weights(model, "hidden1")
    x = relu(x.reshape(len(x), -1) @ kernel + bias)
    kernel, bias = weights(model, "classifier")
    return x @ kernel + bias


def small_cnn(model, x):
    for index, stride in enumerate((1, 2, 1, 2, 1), start=1):
        kernel, bias = weights(model, f"conv{index}")
        x = relu(convolved(x, kernel, stride) + bias)
    kernel, bias = weights(model, "classifier")
    return x.mean(axis=(1, 2)) @ kernel + bias


FORWARD = {"mlp_1m_1024h": perceptron, "small_cnn": small_cnn}


@pytest.mark.parametrize("name", FORWARD)
def test_forward_pass(name):
    model = build(name, classifier_activation=None)
    x = images(model)
    exact = FORWARD[name](model, x.astype("float64"))
    assert np.std(exact) > 0.05
    np.testing.assert_allclose(model(x), exact, rtol=1e-3, atol=1e-4)


def test_shapes_of_table_3():
    """The paper's column "input size" of every layer."""
    model = zoo.build("small_cnn")
    shapes = [(30, 32), (14, 64), (12, 64), (5, 128), (3, 128)]
    for index, (side, channels) in enumerate(shapes, start=1):
        shape = tuple(model.get_layer(f"conv{index}").output.shape)
        assert shape == (None, side, side, channels)


@pytest.mark.parametrize(
    "name, changes, forward, fork",
    [
        ("mlp_16m_64h", {"hidden": (3,), "input_shape": (4, 3, 1)}, perceptron, None),
        (
            "mlp_64m_16h",
            {"hidden": (5,), "input_shape": (4, 3, 1)},
            perceptron,
            "images",
        ),
        (
            "small_cnn_10heads",
            {"filters": (2, 3, 3, 4, 4), "input_shape": (22, 22, 3)},
            small_cnn,
            None,
        ),
    ],
)
def test_modules_share_nothing_and_average_their_logits(name, changes, forward, fork):
    """The normalised geometric mean of the modules' probabilities is the ensemble."""
    options = {"num_heads": 5, "ensembler": eh.ensemblers.Mean("logits"), **changes}
    options |= {"fork_at": fork} if fork else {}
    model = zoo.build(name, classes=7, **options)
    assert not model.trunk.weights
    for seed, head in enumerate(model.heads):
        scatter(head, seed)
    x = images(model.trunk)
    flat = x.reshape(len(x), -1) if "hidden" in changes else x
    logits = [forward(head, flat.astype("float64")) for head in model.heads]
    odds = np.exp(np.mean(logits, axis=0))
    expected = odds / odds.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(model(x), expected, rtol=1e-3, atol=1e-5)
    odds = np.exp(logits[3])
    alone = odds / odds.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(model.head(3)(x), alone, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "name, inputs",
    [
        ("mlp_1m_1024h", {"hidden1": 784, "classifier": 1024}),
        ("small_cnn", {"conv1": 27, "conv4": 9 * 64, "classifier": 128}),
    ],
)
def test_initial_weights_are_uniform(name, inputs):
    model = zoo.build(name)
    for place, size in inputs.items():
        kernel, bias = model.get_layer(place).get_weights()
        assert 0.95 * size**-0.5 < np.abs(kernel).max() <= size**-0.5
        assert np.std(kernel) == pytest.approx((3 * size) ** -0.5, rel=0.1)
        assert 0.5 * size**-0.5 < np.abs(bias).max() <= size**-0.5


def test_modules_start_differently():
    model = zoo.build("mlp_16m_64h", num_heads=3)
    biases = [head.get_layer("hidden1").get_weights()[1] for head in model.heads]
    assert np.abs(biases[0] - biases[1]).max() > 1e-3
    assert np.abs(biases[1] - biases[2]).max() > 1e-3
    again = zoo.build("mlp_16m_64h", num_heads=3, seed=1)
    same = zoo.build("mlp_16m_64h", num_heads=3, seed=1)
    for one, other in zip(again.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["mlp_16m_64h", "small_cnn_10heads"])
def test_modules_train_and_load(name, tmp_path):
    """A trunk without weights, or without any layer, is no trouble to Keras."""
    changes = {"num_heads": 2, "classes": 7}
    if name == "small_cnn_10heads":
        changes |= {"filters": (2, 3, 3, 4, 4), "input_shape": (22, 22, 3)}
    model = zoo.build(name, **changes)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    x, y = images(model.trunk, 8), np.arange(8) % 7
    history = model.fit(x, y, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(x), model(x), rtol=1e-5)


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("mlp_1m_1024h", {"hidden": ()}, "`hidden` must hold positive integers"),
        ("mlp_1m_1024h", {"hidden": 4}, "`hidden` must be a tuple"),
        ("mlp_1m_1024h", {"input_shape": (784,)}, r"be \(height, width, channels\)"),
        ("small_cnn", {"strides": (1, 2)}, "`strides` must have one entry per conv"),
        ("small_cnn", {"filters": (3, -3)}, "`filters` must hold positive integers"),
    ],
)
def test_errors(name, changes, message):
    with pytest.raises(ValueError, match=message):
        zoo.build(name, **changes)
