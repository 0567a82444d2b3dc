"""What users of Keras do with any model, done with multi-headed ones."""

import numpy as np
import numpy.testing as npt
import pytest

import ensemble_heads as eh
from ensemble_heads.keras_api import KERAS_3, keras
from tests import small_models

SPARSE = "sparse_categorical_crossentropy"


def network(listed_inputs=False, listed_outputs=False, policy="float32"):
    """A single network, whose inputs and outputs may stand in lists of one."""
    inputs = keras.Input((6,))
    dense = keras.layers.Dense(8, "relu", name="shared", dtype=policy)
    hidden = keras.layers.Dense(5, "relu", dtype=policy)(dense(inputs))
    outputs = keras.layers.Dense(4, "softmax", dtype="float32")(hidden)
    return keras.Model(
        [inputs] if listed_inputs else inputs, [outputs] if listed_outputs else outputs
    )


def test_a_list_of_one_output_is_that_output(tmp_path):
    x, y = small_models.classification_data()
    single = network(listed_outputs=True)
    model = eh.multi_head(single, "shared", copy_weights=True, width_multiplier=1.0)
    npt.assert_allclose(model.predict(x, verbose=0), single.predict(x, verbose=0), 1e-5)
    model.compile("sgd", SPARSE, metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    npt.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    both = eh.combine([single, network(listed_outputs=True)])
    assert both.predict(x, verbose=0).shape == (len(x), 4)


def test_targets_in_a_list_of_one():
    x, y = small_models.classification_data()
    model = small_models.dense_model()
    model.compile("sgd", SPARSE)
    plain = model.evaluate(x, y, verbose=0)
    assert model.evaluate(x, [y], verbose=0) == plain
    model.fit(x, [y], validation_data=(x, [y]), verbose=0)
    assert model.evaluate(x, y, verbose=0) != plain


def test_weights_of_a_layer_of_which_a_part_is_frozen_are_copied_in_place():
    inputs = keras.Input((3, 2))
    both = keras.layers.Bidirectional(keras.layers.LSTM(4), name="both")
    single = keras.Model(inputs, keras.layers.Dense(3, "softmax")(both(inputs)))
    both.forward_layer.trainable = False
    x = np.random.default_rng(0).normal(size=(5, 3, 2)).astype("float32")
    expected = single.predict(x, verbose=0)
    for model in (
        eh.multi_head(single, "both", copy_weights=True, width_multiplier=1.0),
        eh.combine([single]),
    ):
        npt.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5)


def test_evaluate_gives_a_value_for_each_name():
    x, y = small_models.classification_data()
    model = small_models.dense_model()
    model.compile("sgd", SPARSE, metrics=["accuracy"], weighted_metrics=["accuracy"])
    right = model.predict(x, verbose=0).argmax(axis=-1) == y
    weights = np.where(right, 3.0, 1.0)
    values = model.evaluate(x, y, sample_weight=weights, verbose=0)
    found = dict(zip(model.metrics_names, values, strict=True))
    assert found["accuracy"] == pytest.approx(right.mean())
    weighted = np.average(right, weights=weights)
    assert found["weighted_accuracy"] == pytest.approx(weighted)
    named = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    assert named == pytest.approx(found)


def test_a_loss_scale_goes_on_after_loading(tmp_path):
    x, y = small_models.classification_data()
    model = eh.multi_head(network(policy="mixed_float16"), "shared")
    inner = keras.optimizers.SGD(0.01)
    optimizer = keras.mixed_precision.LossScaleOptimizer(inner, dynamic_growth_steps=2)
    model.compile(optimizer, SPARSE, gradient_accumulation_steps=2)
    model.fit(x, y, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")

    again = keras.models.load_model(tmp_path / "model.keras")
    both = model.optimizer.variables, again.optimizer.variables
    for ours, theirs in zip(*both, strict=True):
        npt.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    if KERAS_3:
        scale = float(model.optimizer.dynamic_scale)
        assert scale == float(again.optimizer.dynamic_scale) > 2**15


@pytest.mark.skipif(not KERAS_3, reason="recomputation needs Keras 3")
def test_recomputation_takes_inputs_in_lists():
    x, y = small_models.classification_data()
    model = eh.multi_head(network(listed_inputs=True), "shared")
    model.compile("sgd", SPARSE, recompute_activations=True)
    for inputs in (x, [x]):
        assert np.isfinite(model.fit(inputs, y, verbose=0).history["loss"][0])


def test_the_head_that_numpy_finds():
    x, _ = small_models.classification_data()
    model = small_models.dense_model(3)
    (head,) = model.select_heads(np.argmax([0.1, 0.3, 0.2])).heads
    npt.assert_array_equal(head.get_weights()[0], model.heads[1].get_weights()[0])


def test_converting_to_what_is_there_keeps_it(monkeypatch):
    model = small_models.dense_model(2)
    placed = model.with_devices([None, "CPU:0"])
    assert placed.with_execution("separate").devices == placed.devices
    monkeypatch.setattr(
        "ensemble_heads.head_layouts.arranging._decide",
        lambda made: eh.head_layouts.measuring.Choice("separate", "", {}),
    )
    assert placed.with_execution("auto").devices == placed.devices != ()


@pytest.mark.skipif(not KERAS_3, reason="a loss of Keras 3")
def test_a_loss_on_class_numbers_that_is_no_cross_entropy():
    x, y = small_models.classification_data()
    model = small_models.dense_model(1)
    loss = keras.losses.CategoricalGeneralizedCrossEntropy(q=0.5)
    model.compile("sgd", loss)
    expected = float(loss(y, model.predict(x, verbose=0)))
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-5)
