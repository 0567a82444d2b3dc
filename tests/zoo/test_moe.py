"""Mixtures and gated scores are their formulas, and stay finite where those do not."""

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests.zoo import videos
from zoo import gating, moe

layers = keras.layers


def model_of(classes=5, num_experts=3, features=6, **options):
    inputs = keras.Input((features,))
    layer = moe.MixtureOfLogisticExperts(classes, num_experts, name="moe", **options)
    x = layers.Activation("sigmoid", dtype="float32")(layer(inputs))
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return model


def draw(batch=4, features=6, scale=1.0):
    return (np.random.default_rng(2).normal(size=(batch, features)) * scale).astype("f")


@pytest.mark.parametrize("num_experts", [1, 2, 5])
def test_is_the_sum_of_gates_times_experts(num_experts):
    model, x = model_of(num_experts=num_experts), draw()
    exact = videos.mixture(model, x.astype("float64"))
    assert exact.min() < 0.1 and exact.max() > 0.6
    np.testing.assert_allclose(model(x), exact, rtol=2e-5)


def test_weights_by_hand():
    """Two classes, one expert: the experts come before the classes in every kernel."""
    layer = moe.MixtureOfLogisticExperts(2, 1)
    layer(tf.zeros([1, 1]))
    gates = np.log([[3.0, 1.0, 1.0, 4.0]])  # of 3 : 1 and 1 : 4 against the dummy
    layer.set_weights([gates, np.array([[0.0, 0.0]]), np.array([0.0, np.log(3.0)])])
    odds = tf.sigmoid(layer(tf.ones([1, 1])))
    np.testing.assert_allclose(odds, [[3 / 4 * 1 / 2, 1 / 5 * 3 / 4]], rtol=1e-6)


def exact_logit(gates, experts):
    """In 80 bits, by logarithms of sums."""
    gates, experts = gates.astype(np.longdouble), experts.astype(np.longdouble)
    add = np.logaddexp.reduce
    yes = add(gates[:, :-1] - np.logaddexp(0, -experts), axis=1)
    no = add(gates[:, :-1] - np.logaddexp(0, experts), axis=1)
    return (yes - np.logaddexp(no, gates[:, -1])).astype("float64")


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3, 1e6])
def test_logit_is_exact_however_sure(scale):
    rng = np.random.default_rng(0)
    gates = rng.normal(size=(6, 4, 5)).astype("f") * np.float32(scale)
    experts = rng.normal(size=(6, 3, 5)).astype("f") * np.float32(scale)
    parts = [tf.constant(gates), tf.constant(experts)]
    with tf.GradientTape() as tape:
        tape.watch(parts)
        logit = moe.mixture_logit(*parts)
    expected = exact_logit(gates, experts)
    np.testing.assert_allclose(logit, expected, rtol=1e-5, atol=1e-5)
    for gradient in tape.gradient(logit, parts):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_gradient_is_that_of_the_formula():
    gates, experts = (tf.constant(draw(8, 3)[:, :, None]) for _ in range(2))
    gates = tf.concat([gates, tf.ones([8, 1, 1])], 1)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([gates, experts])
        ours = tf.sigmoid(moe.mixture_logit(gates, experts))
        shares = tf.nn.softmax(gates, axis=1)[:, :-1]
        plain = tf.reduce_sum(shares * tf.sigmoid(experts), axis=1)
    for part in (gates, experts):
        a, b = tape.gradient(ours, part), tape.gradient(plain, part)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("heads", [None, 2])
def test_training_is_finite_where_probabilities_are_0_and_1(heads):
    model, x = model_of(), draw(scale=1e4)
    target = np.round(1.0 - model(x).numpy())  # sure, and always wrong
    assert set(np.unique(target)) == {0.0, 1.0}
    assert {0.0, 1.0} <= set(np.unique(model(x)))
    if heads:
        fork = model.layers[0].name
        model = eh.multi_head(model, fork, heads, copy_weights=True)
        loss = eh.losses.Ensembling(0.5)
        model.compile("sgd", "binary_crossentropy", ensemble_loss=loss)
    else:
        model.compile("sgd", "binary_crossentropy")
    before = [w.copy() for w in model.get_weights()]
    loss = model.fit(x, target, batch_size=4, verbose=0).history["loss"]
    assert np.isfinite(loss).all() and loss[0] > 5.0
    after = model.get_weights()
    assert all(np.isfinite(w).all() for w in after)
    if heads:  # in log space the gradient has not vanished
        assert max(np.abs(a - b).max() for a, b in zip(after, before)) > 1.0


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_output_is_wide(policy):
    model = model_of(dtype=keras.mixed_precision.Policy(policy))
    logit = model.get_layer("moe")(draw())
    assert logit.dtype == ("float64" if policy == "float64" else "float32")
    exact = videos.mixture(model, draw().astype("float64"))
    np.testing.assert_allclose(tf.sigmoid(logit), exact, rtol=0.05, atol=0.01)


def test_penalty_is_on_both_kernels_and_not_on_the_bias():
    regularizer = keras.regularizers.L2(0.1)
    model = model_of(gate_regularizer=regularizer, expert_regularizer=regularizer)
    gates, experts, _ = model.get_layer("moe").get_weights()
    expected = 0.1 * (np.sum(gates**2) + np.sum(experts**2))
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"classes": 0}, "`classes` must be a positive integer. Received: classes=0"),
        ({"classes": 3, "num_experts": 1.5}, "`num_experts` must .* num_experts=1.5"),
        ({"classes": 3, "num_experts": True}, "Received: num_experts=True"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        moe.MixtureOfLogisticExperts(**options)


def test_takes_one_vector_an_example():
    with pytest.raises(ValueError, match=r"must be \[batch, features\]"):
        moe.MixtureOfLogisticExperts(2)(tf.zeros([2, 3, 4]))


def test_product_of_probabilities():
    rng = np.random.default_rng(0)
    first, second = (rng.normal(0, 3, (50,)).astype("f") for _ in range(2))
    product = videos.sigmoid(first.astype("f8")) * videos.sigmoid(second.astype("f8"))
    found = gating.MultiplyProbabilities()([tf.constant(first), tf.constant(second)])
    np.testing.assert_allclose(found, np.log(product / (1 - product)), rtol=1e-5)


@pytest.mark.parametrize("first", [-1e4, -90.0, 0.0, 90.0, 1e4])
@pytest.mark.parametrize("second", [-1e4, 0.0, 1e4])
def test_product_of_sure_probabilities(first, second):
    parts = [tf.constant(first), tf.constant(second)]
    with tf.GradientTape() as tape:
        tape.watch(parts)
        logit = gating.MultiplyProbabilities()(parts)
    a, b = np.longdouble(first), np.longdouble(second)
    exact = -np.logaddexp(np.logaddexp(-a, -b), -a - b)
    np.testing.assert_allclose(logit, np.float64(exact), rtol=1e-6, atol=1e-30)
    gradients = tape.gradient(logit, parts)
    assert np.isfinite(gradients).all() and np.max(gradients) > 0
