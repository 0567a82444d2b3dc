"""Parts of training loops, against loops written out."""

import math
import time

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from recipes import training
from recipes.results import mean_and_error, percent
from recipes.training import EvaluateEvery, Evaluator, Restartable, StepTimer


def network(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(8, activation="relu", name="trunk")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    outputs = keras.layers.Dense(3, activation="softmax", name="classifier")(x)
    return keras.Model(inputs, outputs)


def heads(seed):
    return eh.multi_head(network(seed), "trunk", num_heads=2, seed=seed)


def compiled(model):
    schedule = keras.optimizers.schedules.CosineDecay(0.05, 12)
    model.compile(
        optimizer=keras.optimizers.Adam(schedule),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def data(examples=10, batch=4):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(examples, 4)).astype("float32")
    y = rng.integers(0, 3, examples)
    return x, y, tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)


@pytest.mark.parametrize("make", [network, heads])
def test_starting_again_equals_a_new_model(make):
    _, _, dataset = data()

    def losses(model):
        return model.fit(dataset, epochs=4, shuffle=False, verbose=0).history["loss"]

    learner = Restartable(compiled(make(1)))
    learner.restart(make(1))
    first = losses(learner.model)
    learner.restart(make(2))
    second = losses(learner.model)
    learner.restart(make(1))
    np.testing.assert_allclose(losses(learner.model), first, rtol=1e-5)
    fresh = losses(compiled(make(2)))
    np.testing.assert_allclose(second, fresh, rtol=1e-5)
    assert abs(first[0] - second[0]) > 1e-3
    drawn = make(2)
    learner.restart(drawn)
    for ours, theirs in zip(learner.model.get_weights(), drawn.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


def test_an_evaluation_equals_numpy():
    x, y, dataset = data(examples=11)
    model = heads(3)
    result = Evaluator(model, dataset.element_spec)(dataset, 11)
    each = model.head_predictions(x).numpy()
    mean = each.mean(axis=1)
    assert result.examples == 11
    assert result.accuracy == pytest.approx(np.mean(mean.argmax(-1) == y))
    expected = tuple(np.mean(each[:, i].argmax(-1) == y) for i in range(2))
    assert result.head_accuracies == pytest.approx(expected)
    cross_entropy = -np.mean(np.log(mean[np.arange(11), y]))
    assert result.cross_entropy == pytest.approx(cross_entropy, rel=1e-5)


def test_an_evaluation_of_a_plain_model_has_no_heads():
    x, y, dataset = data()
    model = network(3)
    result = Evaluator(model, dataset.element_spec)(dataset, 10)
    expected = np.mean(model.predict(x, verbose=0).argmax(-1) == y)
    assert result.accuracy == pytest.approx(expected)
    assert result.head_accuracies == ()


@pytest.mark.parametrize("wrong", ["dropped", "repeated"])
def test_examples_that_are_dropped_or_repeated_are_noticed(wrong):
    _, _, dataset = data(examples=10, batch=4)
    evaluate = Evaluator(network(0), dataset.element_spec)
    seen = dataset.take(2) if wrong == "dropped" else dataset.repeat(2)
    with pytest.raises(RuntimeError, match="must see 10 examples exactly once"):
        evaluate(seen, 10)


def test_evaluations_come_every_few_epochs_and_at_the_end():
    _, _, dataset = data()
    model = compiled(network(0))
    callback = EvaluateEvery(lambda: int(model.optimizer.iterations), 2)
    model.fit(dataset, epochs=5, shuffle=False, verbose=0, callbacks=[callback])
    assert callback.results == {2: 6, 4: 12, 5: 15}


def test_the_step_timer_measures_steps_after_the_first_epoch(monkeypatch):
    clock = iter(
        # Epoch 1 with compiling, epoch 2, epoch 3 after a long evaluation.
        [0.0, 50.0, 51.0, *(60.0, 60.5, 61.0), *(900.0, 900.25, 900.75)]
    )
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    timer = StepTimer()
    timer.on_train_begin()
    for epoch in range(3):
        timer.on_epoch_begin(epoch)
        for batch in range(3):
            timer.on_train_batch_end(batch)
    assert timer.seconds_per_step == 0.5  # the median of 0.5, 0.5, 0.25, 0.5


def test_the_step_timer_agrees_with_a_clock():
    x, y, _ = data(examples=40)

    def slow(x, y):
        time.sleep(0.03)
        return x, y

    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    dataset = dataset.map(
        lambda x, y: tf.numpy_function(slow, [x, y], [tf.float32, tf.int64])
    ).map(lambda x, y: (tf.ensure_shape(x, [8, 4]), tf.ensure_shape(y, [8])))
    timer = StepTimer()
    model = compiled(network(0))
    model.fit(dataset, epochs=3, shuffle=False, verbose=0, callbacks=[timer])
    assert 0.02 < timer.seconds_per_step < 0.5


def test_standard_errors_are_those_of_the_paper():
    # sqrt((4 + 1 + 9) / (3 * 2)) around a mean of 3.
    mean, error = mean_and_error([1.0, 2.0, 6.0])
    assert mean == 3.0 and error == pytest.approx(math.sqrt(14 / 6))
    assert mean_and_error([0.5]) == (0.5, None)


def test_percentages_as_text():
    assert percent(0.97531, 0.0021) == "97.53 ± 0.21"
    assert percent(0.004, 0.001, signed=True) == "+0.40 ± 0.10"
    assert percent(0.5, None) == "50.00 ± n/a"
    assert percent(None, None) == "n/a"
