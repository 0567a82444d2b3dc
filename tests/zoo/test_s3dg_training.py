"""S3D-G in half precision, under XLA, and in training."""

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from tests.zoo.image_models import scatter
from tests.zoo.s3dg_models import SMALL, build, clips
from tests.zoo.videos import sigmoid
from zoo.gating import feature_gate

pytestmark = [pytest.mark.slow, pytest.mark.line("2.21")]

LARGE = (8, 128, 128, 3)


@pytest.fixture(scope="module")
def in_float32():
    """Weights of a model of larger clips, and what it says."""
    model = build(input_shape=LARGE)
    return model.get_weights(), np.array(model(clips(LARGE, batch=1)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy, in_float32):
    """Outputs are near those in float32, gradients finite."""
    weights, expected = in_float32
    x = clips(LARGE, batch=1)
    keras.mixed_precision.set_global_policy(policy)
    half = build(input_shape=LARGE)
    assert half.get_layer("conv_2c").compute_dtype == policy.removeprefix("mixed_")

    @tf.function  # as `fit` trains; eagerly other kernels run
    def step():
        with tf.GradientTape() as tape:
            outputs = half(x, training=True)
            loss = -tf.reduce_mean(tf.math.log(outputs[:, 1]))
        return outputs, tape.gradient(loss, half.trainable_weights)

    outputs, gradients = step()
    assert outputs.dtype == tf.float32
    assert all(np.isfinite(np.array(one)).all() for one in gradients)
    half.set_weights(weights)  # training has moved the statistics
    np.testing.assert_allclose(half(x), expected, atol=0.05)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_gates_average_any_number_of_places(policy):
    """32,768 fours: in 16 bits their sum is infinite or stops growing early."""
    keras.mixed_precision.set_global_policy(policy)
    inputs = keras.Input((8, 64, 64, 3))
    model = keras.Model(inputs, feature_gate(inputs, "gate"))
    model.get_layer("gate_conv").set_weights([0.25 * np.eye(3)[None, None, None]])
    outputs = np.array(model(np.full((1, 8, 64, 64, 3), 4.0, "float32")))
    np.testing.assert_allclose(outputs.astype("float32"), 4 * sigmoid(1.0), rtol=1e-2)


def test_xla():
    """The forward pass, and gradients up to a block, are those of eager execution.

    Not beyond it: a block pools what overlapping windows have pooled, whose maxima are
    equal, and eager TensorFlow gives each of these the whole gradient on a CPU.
    """
    single, x = build(weight_decay=1e-2), clips()
    model = keras.Model(single.input, single.get_layer("mixed_3b_1_gate").output)

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x, training=True) ** 2)
            loss += tf.add_n(model.losses)
        gradients = tape.gradient(loss, model.trainable_weights)
        return loss, gradients, single(x, training=False)

    state = single.get_weights()
    expected = step(x)
    single.set_weights(state)
    found = tf.function(step, jit_compile=True)(x)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-3 * scale + 1e-7)


def test_trains():
    """Every weight of the trunk and of both heads moves, and the loss falls."""
    model, x = zoo.build("s3dg_2heads", **SMALL, dropout=0.0), clips()
    for number, part in enumerate([model.trunk, *model.heads]):
        scatter(part, number)
    loss = "sparse_categorical_crossentropy"
    model.compile(
        keras.optimizers.Adam(3e-3),
        loss,
        ensemble_loss=eh.losses.CoDistillation(2.0),
        run_eagerly=True,  # tracing takes longer than training here
    )
    before = model.get_weights()
    history = model.fit(x, np.array([1, 4]), epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0] and np.isfinite(history).all()
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.abs(old - new).max() > 0


def test_weight_decay_is_on_kernels_and_gammas():
    model = build(weight_decay=0.02)
    counted = [
        weight
        for layer in model.layers
        for key in ("kernel", "gamma")
        if (weight := getattr(layer, key, None)) is not None
    ]
    assert len(counted) == len(model.losses)
    expected = 0.01 * sum(np.sum(np.square(w.numpy(), dtype="f8")) for w in counted)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    assert not build().losses
