"""Every public layer, loss and metric: graph, batch, config, file, precision, XLA."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

from ensemble_heads.keras_api import keras
from tests.conformance import cases


def by_name(table):
    return pytest.mark.parametrize(
        "case", table.values(), ids=[cls.__name__ for cls in table]
    )


def test_every_public_class_is_listed():
    listed = {*cases.LAYERS, *cases.LOSSES, *cases.METRICS}
    listed |= {*cases.ABSTRACT, *cases.ELSEWHERE}
    missing = {f"{c.__module__}.{c.__name__}" for c in cases.public_classes() - listed}
    assert not missing, f"add rows to tests/conformance/cases.py for {sorted(missing)}"
    assert listed <= cases.public_classes()


# ---- Layers


def settled(case):
    """A layer whose weights are no longer what they were drawn as, and an input."""
    layer, x = case.make(), case.inputs()
    layer(x)
    layer.set_weights(
        [np.random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()]
    )
    return layer, x


def keras_inputs(x):
    return tf.nest.map_structure(lambda array: keras.Input(array.shape[1:]), x)


@by_name(cases.LAYERS)
def test_layer_in_a_graph_of_unknown_batch(case):
    layer, x = settled(case)
    specs = tf.nest.map_structure(cases.unknown_batch, x)
    graph = tf.function(layer).get_concrete_function(specs)
    for size in (1, cases.BATCH):
        some = tf.nest.map_structure(tf.constant, cases.first(x, size))
        npt.assert_allclose(graph(some), np.array(layer(some)), atol=case.atol)


@by_name(cases.LAYERS)
def test_layer_in_a_functional_model(case):
    layer, x = settled(case)
    inputs = keras_inputs(x)
    outputs = layer(inputs)
    eager = np.array(layer(x))
    assert tuple(outputs.shape) == (None, *eager.shape[1:])
    model = keras.Model(inputs, outputs)
    found = model.predict(x, batch_size=2, verbose=0)
    npt.assert_allclose(found, eager, rtol=1e-5, atol=1e-5)


@by_name(cases.LAYERS)
def test_layer_config_round_trip(case):
    layer, x = settled(case)
    config = layer.get_config()
    again = type(layer).from_config(config)
    again(x)
    again.set_weights(layer.get_weights())
    assert again.name == layer.name
    npt.assert_allclose(again(x), layer(x), atol=case.atol)
    strings = keras.saving.serialize_keras_object
    assert strings(again)["config"] == strings(layer)["config"]


@by_name(cases.LAYERS)
def test_layer_in_a_keras_file(case, tmp_path):
    layer, x = settled(case)
    inputs = keras_inputs(x)
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    npt.assert_allclose(again(x), model(x), atol=case.atol)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@by_name(cases.LAYERS)
def test_layer_in_mixed_precision(case, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        layer, x = settled(case)
        low = layer(x)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    full = case.make()
    full(x)
    full.set_weights(layer.get_weights())
    assert all(w.dtype == np.float32 for w in layer.get_weights())
    low = np.array(tf.cast(low, tf.float32))
    expected = np.array(full(x))
    npt.assert_allclose(low, expected, rtol=0.05, atol=0.05)


@by_name(cases.LAYERS)
def test_layer_under_xla(case):
    layer, x = settled(case)
    x = tf.nest.map_structure(tf.constant, x)

    def value_and_gradient(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=False)
            total = tf.reduce_sum(tf.square(outputs))
        return [outputs, *tf.nest.flatten(tape.gradient(total, inputs))]

    compiled = tf.function(value_and_gradient, jit_compile=True)(x)
    plain = value_and_gradient(x)
    for one, other in zip(compiled, plain):
        npt.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert all(np.abs(gradient).max() > 0 for gradient in plain[1:])


# ---- Losses


def labelled(case):
    labels = np.random.randint(0, case.logits[-1], cases.BATCH)
    return labels, np.random.normal(size=(cases.BATCH, *case.logits)).astype("float32")


@by_name(cases.LOSSES)
def test_loss_in_a_graph_of_unknown_batch(case):
    labels, logits = labelled(case)
    loss = case.make()
    function = tf.function(lambda labels, logits: case.call(loss, labels, logits))
    specs = cases.unknown_batch(labels), cases.unknown_batch(logits)
    graph = function.get_concrete_function(*specs)
    for size in (1, cases.BATCH):
        eager = np.array(case.call(loss, labels[:size], logits[:size]))
        assert eager.shape == (size,)
        got = graph(tf.constant(labels[:size]), tf.constant(logits[:size]))
        npt.assert_allclose(got, eager, rtol=1e-5)


@by_name(cases.LOSSES)
def test_loss_config_round_trip(case):
    labels, logits = labelled(case)
    loss = case.make()
    saved = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(saved)
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
    npt.assert_array_equal(
        case.call(again, labels, logits), case.call(loss, labels, logits)
    )


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
@by_name(cases.LOSSES)
def test_loss_of_narrow_logits_is_computed_in_float32(case, dtype):
    labels, logits = labelled(case)
    loss, low = case.make(), tf.cast(logits, dtype)
    value = case.call(loss, labels, low)
    assert value.dtype == tf.float32
    wide = case.call(loss, labels, tf.cast(low, tf.float32))
    npt.assert_allclose(value, wide, rtol=1e-6)


@by_name(cases.LOSSES)
def test_loss_under_xla(case):
    labels, logits = labelled(case)
    loss, logits = case.make(), tf.constant(logits)

    def value_and_gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            values = case.call(loss, labels, logits)
        return values, tape.gradient(values, logits)

    compiled = tf.function(value_and_gradient, jit_compile=True)(logits)
    for one, other in zip(compiled, value_and_gradient(logits)):
        npt.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


# ---- Metrics


def stepping(metric, **options):
    @tf.function(**options)
    def step(targets, scores):
        metric.update_state(targets, scores)
        return metric.result()

    return step


@by_name(cases.METRICS)
def test_metric_in_a_graph_of_unknown_batch(case):
    metric, again = case.make(), case.make()
    targets, scores = case.batch()
    specs = cases.unknown_batch(targets), cases.unknown_batch(scores)
    step = stepping(metric, input_signature=specs)
    for rows in (slice(0, 1), slice(1, None)):
        again.update_state(targets[rows], scores[rows])
        npt.assert_allclose(step(targets[rows], scores[rows]), again.result())
    assert 0 < float(metric.result()) < 1
    metric.reset_state()
    assert float(metric.result()) == 0


@by_name(cases.METRICS)
def test_metric_config_round_trip(case):
    metric = case.make()
    saved = keras.saving.serialize_keras_object(metric)
    again = keras.saving.deserialize_keras_object(saved)
    assert type(again) is type(metric) and again.get_config() == metric.get_config()
    batch = case.batch()
    for one in (metric, again):
        one.update_state(*batch)
    assert float(again.result()) == float(metric.result())


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
@by_name(cases.METRICS)
def test_metric_of_narrow_scores_is_computed_in_full(case, dtype):
    metric, wide = case.make(), case.make()
    targets, scores = case.batch()
    low = tf.cast(scores, dtype)
    metric.update_state(tf.cast(targets, dtype), low)
    wide.update_state(targets, tf.cast(low, tf.float32))
    assert metric.result().dtype == tf.float32
    assert float(metric.result()) == float(wide.result())


@by_name(cases.METRICS)
def test_metric_under_xla(case):
    metric, again = case.make(), case.make()
    targets, scores = case.batch()
    again.update_state(targets, scores)
    step = stepping(metric, jit_compile=True)
    value = step(tf.constant(targets), tf.constant(scores))
    npt.assert_allclose(value, again.result(), rtol=1e-6)
    npt.assert_allclose(metric.result(), again.result(), rtol=1e-6)
