"""The fused batch norm is Keras' own in outputs, gradients, statistics and freezing."""

import numpy as np
import pytest
import tensorflow as tf

import zoo
from ensemble_heads.keras_api import KERAS_3, keras

SHAPES = [(7, 5), (3, 4, 5), (3, 4, 2, 5), (2, 3, 4, 2, 5)]


def keras_layer(**options):
    """Keras' own layer in its composed form: population variance on both lines."""
    return keras.layers.BatchNormalization(
        **options, **({} if KERAS_3 else {"fused": False})
    )


def layers_like(shape, **options):
    """The fused layer and Keras' own, with the same non-trivial weights."""
    made = (zoo.BatchNormalization(**options), keras_layer(**options))
    rng = np.random.default_rng(1)
    for layer in made:
        layer.build((None, *shape[1:]))
    weights = [rng.uniform(0.5, 2.0, w.shape) for w in made[0].get_weights()]
    for layer in made:
        layer.set_weights(weights)
    return made


def values(shape, mean=1.0, deviation=2.0):
    return np.random.default_rng(0).normal(mean, deviation, shape).astype("float32")


def run(layer, x, training, compile_step=lambda step: step, **call_options):
    """Output, gradients of a squared error by input and weights, weights after."""
    target = tf.constant(np.cos(np.arange(x.size)).reshape(x.shape), tf.float32)

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training, **call_options)
            loss = tf.reduce_sum((tf.cast(y, tf.float32) - target) ** 2) / 10
        return [y, *tape.gradient(loss, [x, *layer.trainable_variables])]

    results = compile_step(step)(tf.constant(x))
    return [tf.cast(a, tf.float32).numpy() for a in results] + layer.get_weights()


def assert_equal_results(layers, x, training, tolerance=1e-5, **options):
    mine, theirs = (run(layer, x, training, **options) for layer in layers)
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def operations(layer, shape, **call_options):
    @tf.function
    def step(x):
        return layer(x, **call_options)

    graph = step.get_concrete_function(tf.TensorSpec(shape, tf.float32)).graph
    return {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=len)
@pytest.mark.parametrize(
    "options", [{}, {"center": False, "momentum": 0.5}, {"scale": False}]
)
def test_equals_keras(shape, options, training):
    layers = layers_like(shape, **options)
    assert_equal_results(layers, values(shape), training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES[1:3], ids=len)
def test_equals_keras_under_xla(shape, training):
    assert_equal_results(
        layers_like(shape),
        values(shape),
        training,
        compile_step=lambda step: tf.function(step, jit_compile=True),
    )


def test_keras_default_layer_differs_by_bessels_correction_only():
    shape = (3, 4, 2, 5)
    mine = layers_like(shape, momentum=0.0)[0]
    default = keras.layers.BatchNormalization(momentum=0.0)
    default.build((None, *shape[1:]))
    default.set_weights(mine.get_weights())
    ours, theirs = (run(layer, values(shape), True) for layer in (mine, default))
    count = 3 * 4 * 2
    theirs[-1] *= 1 if KERAS_3 else (count - 1) / count
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=len)
def test_runs_the_kernel(shape, training):
    layer = zoo.BatchNormalization()
    unknown = [None] * (len(shape) - 1) + [shape[-1]]
    found = operations(layer, unknown, training=training)
    assert "FusedBatchNormV3" in found
    assert not found & {"Rsqrt", "SquaredDifference", "Mean"}


@pytest.mark.parametrize(
    "options", [{"synchronized": True}, {"axis": 1}, {"dtype": "float64"}]
)
def test_keeps_keras_path_where_the_kernel_does_not_apply(options):
    shape = (3, 4, 2, 5)
    layers = layers_like(shape, **options)
    assert "FusedBatchNormV3" not in operations(layers[0], shape, training=True)
    assert_equal_results(layers, values(shape), True)


def test_unknown_dimensions_and_a_batch_without_examples():
    layer = layers_like((3, 4, 2, 5))[0]
    reference = [w.copy() for w in layer.get_weights()]
    step = tf.function(
        lambda x: layer(x, training=True),
        input_signature=[tf.TensorSpec([None, None, None, 5])],
    )
    assert step(tf.zeros([0, 4, 2, 5])).shape == (0, 4, 2, 5)
    for before, after in zip(reference, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    x = values((2, 6, 3, 5))
    np.testing.assert_allclose(
        step(x), run(layers_like(x.shape)[1], x, True)[0], rtol=1e-5, atol=1e-5
    )
    empty = layers_like((3, 5))[0]
    empty(tf.zeros([0, 5]), training=True)
    assert np.isfinite(np.concatenate(empty.get_weights())).all()


def test_one_value_per_channel_has_variance_zero():
    layer = zoo.BatchNormalization(momentum=0.0)
    layer(tf.constant([[3.0, 4.0]]), training=True)
    np.testing.assert_array_equal(layer.moving_mean, [3.0, 4.0])
    np.testing.assert_array_equal(layer.moving_variance, [0.0, 0.0])


def test_small_epsilon_is_kept():
    """`tf.nn.fused_batch_norm` would silently use 1.001e-5 instead."""
    x = values((6, 3, 2, 5), mean=0.0, deviation=1e-3)
    mine, theirs = layers_like(x.shape, epsilon=1e-8)
    for training in (True, False):
        np.testing.assert_allclose(
            mine(x, training=training), theirs(x, training=training), rtol=1e-4
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES[::2], ids=len)
def test_mixed_precision_keeps_statistics_in_float32(shape, dtype):
    options = {"dtype": keras.mixed_precision.Policy(f"mixed_{dtype}")}
    mine, theirs = layers_like(shape, momentum=0.0, **options)
    # Squares of these overflow float16.
    x = tf.cast(values(shape, mean=600.0, deviation=300.0), dtype)
    for training in (True, False):
        a, b = (layer(x, training=training) for layer in (mine, theirs))
        assert a.dtype.name == b.dtype.name == dtype
        a, b = tf.cast(a, tf.float32), tf.cast(b, tf.float32)
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-2)
    exact = tf.cast(x, tf.float64).numpy().reshape(-1, shape[-1])
    assert mine.moving_variance.dtype in ("float32", tf.float32)
    np.testing.assert_allclose(mine.moving_mean, exact.mean(0), rtol=1e-5)
    np.testing.assert_allclose(mine.moving_variance, exact.var(0), rtol=1e-4)


def test_mixed_precision_gradients():
    shape = (3, 4, 2, 5)
    options = {"dtype": keras.mixed_precision.Policy("mixed_bfloat16")}
    assert_equal_results(layers_like(shape, **options), values(shape), True, 5e-2)


@pytest.mark.parametrize("shape", SHAPES[1:3], ids=len)
def test_masked_positions_do_not_count(shape):
    layers = layers_like(shape)
    mask = tf.constant(np.random.default_rng(2).integers(0, 2, shape[:-1]) > 0)
    assert_equal_results(layers, values(shape), True, mask=mask)
    changed = np.where(mask.numpy()[..., None], values(shape), 1e6).astype("float32")
    other = layers_like(shape)[0]
    other(changed, training=True, mask=mask)
    np.testing.assert_allclose(
        other.moving_mean, layers[0].moving_mean, rtol=1e-4, atol=1e-4
    )
    assert_equal_results(layers, values(shape), False, mask=mask)


def test_a_batch_of_masked_positions_only_changes_nothing():
    layer = layers_like((3, 4, 5))[0]
    before = [w.copy() for w in layer.get_weights()]
    results = run(layer, values((3, 4, 5)), True, mask=tf.zeros([3, 4], tf.bool))
    assert all(np.isfinite(part).all() for part in results)
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_masked_statistics_are_kept_in_float32(dtype):
    policy = keras.mixed_precision.Policy(f"mixed_{dtype}")
    layer = layers_like((40, 6, 5), momentum=0.0, dtype=policy)[0]
    # Squares of these overflow float16.
    x = tf.cast(values((40, 6, 5), mean=600.0, deviation=300.0), dtype)
    mask = np.random.default_rng(2).integers(0, 2, (40, 6)) > 0
    assert layer(x, training=True, mask=tf.constant(mask)).dtype == dtype
    exact = tf.cast(x, tf.float64).numpy()[mask]
    np.testing.assert_allclose(layer.moving_mean, exact.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, exact.var(0), rtol=1e-4)


@pytest.mark.parametrize("training", [True, False, None])
def test_frozen_layer_uses_and_keeps_its_statistics(training):
    shape = (3, 4, 2, 5)
    mine, theirs = layers_like(shape)
    before = [w.copy() for w in mine.get_weights()]
    mine.trainable = theirs.trainable = False
    x = values(shape)
    output = mine(x, training=training)
    np.testing.assert_allclose(output, theirs(x, training=training), rtol=1e-5)
    np.testing.assert_allclose(output, mine(x, training=False), rtol=1e-6)
    for a, b in zip(before, mine.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(mine.trainable_weights) == 0
    mine.trainable = True
    mine(x, training=True)
    assert not np.allclose(mine.get_weights()[2], before[2])


def test_configuration_is_that_of_keras():
    options = {
        "momentum": 0.8,
        "epsilon": 1e-4,
        "scale": False,
        "beta_initializer": "ones",
        "beta_regularizer": keras.regularizers.L2(0.1),
        "name": "bn",
    }
    config = zoo.BatchNormalization(**options).get_config()
    assert config == keras.layers.BatchNormalization(**options).get_config()
    assert zoo.BatchNormalization.from_config(config).get_config() == config
    synchronized = zoo.BatchNormalization(synchronized=True).get_config()
    assert zoo.BatchNormalization.from_config(synchronized).synchronized
    assert isinstance(zoo.BatchNormalization(), keras.layers.BatchNormalization)


def test_gamma_regulariser_is_in_the_losses():
    layer = zoo.BatchNormalization(gamma_regularizer=keras.regularizers.L2(0.5))
    layer(tf.ones([2, 4]), training=True)
    assert float(sum(layer.losses)) == pytest.approx(0.5 * 4)


def test_trains_like_keras_in_fit_and_reloads(tmp_path):
    x, y = values((16, 6)), values((16, 2))[:, :1]

    def model(make):
        inputs = keras.Input((6,))
        hidden = keras.layers.Dense(4, kernel_initializer="ones")(inputs)
        outputs = keras.layers.Dense(1, kernel_initializer="ones")(make()(hidden))
        built = keras.Model(inputs, outputs)
        built.compile("sgd", "mse")
        return built

    models = [model(make) for make in (zoo.BatchNormalization, keras_layer)]
    losses = [
        m.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history["loss"]
        for m in models
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    np.testing.assert_allclose(*(m.predict(x, verbose=0) for m in models), rtol=1e-3)
    models[0].save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert any(type(layer) is zoo.BatchNormalization for layer in again.layers)
    np.testing.assert_allclose(
        again.predict(x, verbose=0), models[0].predict(x, verbose=0), rtol=1e-6
    )
