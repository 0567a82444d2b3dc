"""Gradients of several batches equal those of all their examples at once."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import KERAS_3, keras
from tests import small_models

SPARSE = "sparse_categorical_crossentropy"
BATCH, STEPS, GROUPS = 4, 3, 2


def trained(start, steps, optimizer, policy="float32", loss=SPARSE, **settings):
    """The weights after an epoch over the same examples in the same order."""
    keras.mixed_precision.set_global_policy(policy)
    regularizer = keras.regularizers.L2(0.01)
    model = small_models.dense_model(2, regularizer=regularizer)
    keras.mixed_precision.set_global_policy("float32")
    model.set_weights(start)
    model.compile(optimizer, loss, gradient_accumulation_steps=steps, **settings)
    size = BATCH if steps > 1 else BATCH * STEPS
    history = model.fit(*DATA, batch_size=size, shuffle=False, verbose=0).history
    return model, history


np.random.seed(3)
DATA = small_models.classification_data(BATCH * STEPS * GROUPS)
SETTINGS = {
    "plain": {},
    "adam": {"optimizer": lambda: keras.optimizers.Adam(0.05)},
    "clipnorm": {"optimizer": lambda: keras.optimizers.SGD(0.3, clipnorm=0.05)},
    "codistillation": {"ensemble_loss": eh.losses.CoDistillation(3.0)},
    "multiple_choice": {"ensemble_loss": eh.losses.MultipleChoice(1)},
    "eager": {"run_eagerly": True},
    "xla": {"jit_compile": True},
    "several_steps": {"steps_per_execution": 2},
    "mixed_float16": {"policy": "mixed_float16"},
}


def sgd(rate=0.3):
    return keras.optimizers.SGD(rate, momentum=0.9)


@pytest.mark.parametrize("setting", SETTINGS)
def test_steps_equal_those_of_the_batches_together(setting):
    settings = dict(SETTINGS[setting])
    optimizer = settings.pop("optimizer", sgd)
    start = small_models.dense_model(2).get_weights()
    whole, at_once = trained(start, 1, optimizer(), **settings)
    parts, one_by_one = trained(start, STEPS, optimizer(), **settings)
    assert int(parts.optimizer.iterations) == int(whole.optimizer.iterations) == GROUPS
    tolerance = 2e-3 if setting == "mixed_float16" else 2e-6
    moved = [np.abs(a - b).max() for a, b in zip(whole.get_weights(), start)]
    assert min(moved) > 2 * tolerance
    for ours, theirs in zip(parts.get_weights(), whole.get_weights()):
        npt.assert_allclose(ours, theirs, rtol=10 * tolerance, atol=tolerance)
    npt.assert_allclose(one_by_one["loss"], at_once["loss"], rtol=10 * tolerance)


def test_a_loss_that_sums_gives_the_mean_of_the_sums():
    """As Keras 3 accumulates: the step of all batches at 1 / n of the rate."""
    start = small_models.dense_model(2).get_weights()
    model = small_models.dense_model(2)
    results = []
    for steps, rate in ((1, 0.01 / STEPS), (STEPS, 0.01)):
        model.set_weights(start)
        model.compile(
            keras.optimizers.SGD(rate),
            keras.losses.SparseCategoricalCrossentropy(reduction="sum"),
            gradient_accumulation_steps=steps,
        )
        size = BATCH * STEPS // steps
        model.fit(*DATA, batch_size=size, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for one, other, first in zip(*results, start):
        assert np.abs(one - first).max() > 1e-3
        npt.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not KERAS_3, reason="Keras 2 has no accumulation of its own")
def test_steps_equal_those_of_keras_own_accumulation():
    start = small_models.dense_model(2).get_weights()
    ours, _ = trained(start, STEPS, keras.optimizers.Adam(0.05))
    model = small_models.dense_model(2, regularizer=keras.regularizers.L2(0.01))
    model.set_weights(start)
    own = keras.optimizers.Adam(0.05, gradient_accumulation_steps=STEPS)
    model.compile(own, SPARSE)
    model.fit(*DATA, batch_size=BATCH, shuffle=False, verbose=0)
    for one, other in zip(ours.get_weights(), model.get_weights()):
        npt.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_weights_rest_within_a_group_which_epochs_may_cut():
    model = small_models.dense_model(2)
    model.compile(sgd(), SPARSE, gradient_accumulation_steps=4)
    start = model.get_weights()
    x, y = DATA[0][:6], DATA[1][:6]
    for fits in range(1, 5):  # two batches each
        before = model.get_weights()
        model.fit(x, y, batch_size=3, shuffle=False, verbose=0)
        assert int(model.optimizer.iterations) == fits // 2
        rested = all((a == b).all() for a, b in zip(before, model.get_weights()))
        assert rested == (fits % 2 == 1)
    twin = small_models.dense_model(2)
    twin.set_weights(start)
    twin.compile(sgd(), SPARSE)
    twin.fit(x, y, batch_size=6, epochs=2, verbose=0)
    for one, other in zip(model.get_weights(), twin.get_weights()):
        npt.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_overflow_skips_the_step_of_a_group_and_lowers_the_scale_once():
    keras.mixed_precision.set_global_policy("mixed_float16")
    model = small_models.dense_model(2)
    keras.mixed_precision.set_global_policy("float32")
    optimizer = keras.mixed_precision.LossScaleOptimizer(sgd(), initial_scale=2.0**40)
    model.compile(optimizer, SPARSE, gradient_accumulation_steps=2)
    before = model.get_weights()
    for power in (39, 38):
        model.fit(DATA[0][:12], DATA[1][:12], batch_size=6, verbose=0)
        scale = optimizer.dynamic_scale if KERAS_3 else optimizer.loss_scale
        assert float(tf.convert_to_tensor(scale)) == 2.0**power
    for a, b in zip(before, model.get_weights()):
        npt.assert_array_equal(a, b)


def test_loaded_model_goes_on_with_the_same_curve(tmp_path):
    start = small_models.dense_model(2).get_weights()
    model, _ = trained(start, STEPS, keras.optimizers.Adam(0.05))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    options = {"batch_size": BATCH, "epochs": 3, "shuffle": False, "verbose": 0}
    histories = [one.fit(*DATA, **options).history for one in (model, again)]
    npt.assert_allclose(histories[1]["loss"], histories[0]["loss"], rtol=1e-6)
    steps = 4 * GROUPS
    assert int(again.optimizer.iterations) == int(model.optimizer.iterations) == steps


def test_frozen_layers_and_parts_without_gradient():
    model = small_models.several_outputs_model(dict)
    model.trunk.trainable = False
    model.compile("sgd", {"size": "mse"}, gradient_accumulation_steps=2)
    x = {n: np.random.normal(size=(8, k)) for n, k in (("left", 3), ("right", 2))}
    y = {"size": np.random.normal(size=(8, 1))}
    before = model.get_weights()
    model.fit(x, y, batch_size=4, verbose=0)
    changed = {
        id(w) for w, old in zip(model.weights, before) if (np.array(w) != old).any()
    }
    expected = {id(w) for h in model.heads for w in h.get_layer("size").weights}
    assert changed == expected


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2"])
def test_number_of_batches(count):
    model = small_models.dense_model(2)
    message = "`gradient_accumulation_steps` must be an integer of at least 1"
    with pytest.raises(ValueError, match=message):
        model.compile("sgd", SPARSE, gradient_accumulation_steps=count)
