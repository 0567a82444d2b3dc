"""Analyses that need the model itself: cost, perturbed weights, and training live."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads import analyses, strategies
from ensemble_heads.analyses import perturbation
from ensemble_heads.keras_api import keras
from tests import small_models


def settled(num_heads=3, **kwargs):
    model = small_models.dense_model(num_heads, **kwargs)
    return model, small_models.classification_data(20)


# ---- Any-time evaluation


@pytest.mark.parametrize("make", [settled, lambda: (small_models.dense_tree(), None)])
def test_any_time_costs_the_trunk_and_the_heads_so_far(make):
    model, _ = make()
    data = small_models.classification_data(20)
    said = analyses.collect(model, data, verbose=0)
    found = analyses.evaluate_any_time(model, said, order=[2, 0, 1])
    npt.assert_array_equal(found.heads, [1, 2, 3])
    for i, order in enumerate([[2], [2, 0], [2, 0, 1]]):
        part = model.select_heads(order)
        assert found.flops[i] == eh.profile(part).flops
        assert found.parameters[i] == eh.profile(part).parameters
        classes = part.predict(data[0], verbose=0).argmax(axis=-1)
        npt.assert_allclose(found.accuracies[i], np.mean(classes == data[1]))
    assert found.flops[-1] == eh.profile(model).flops


def test_any_time_by_hand():
    model, data = settled(2)
    said = analyses.collect(model, data, verbose=0)
    found = analyses.evaluate_any_time(model, said, sizes=[1])
    trunk, head = 6 * 7 + 7, 7 * 5 + 5 + 5 * 4 + 4
    npt.assert_array_equal(found.parameters, [trunk + head])
    with pytest.raises(ValueError, match="`order` must name"):
        analyses.evaluate_any_time(model, said, order=[0, 0])
    for sizes in ([3], [0], [1.5], []):
        with pytest.raises(ValueError, match="`sizes` must be whole, from 1 to 2"):
            analyses.evaluate_any_time(model, said, sizes=sizes)
    again = analyses.evaluate_any_time(model, said, sizes=np.array([1]))
    npt.assert_array_equal(again.flops, found.flops)
    with pytest.raises(ValueError, match="`model` must be an eh.MultiHeadModel"):
        analyses.evaluate_any_time(model.head(0), said)


# ---- Width of the optimum


def bits(model):
    return [np.asarray(w).tobytes() for w in model.get_weights()]


def test_perturbed_weights_are_a_step_away_and_come_back(monkeypatch):
    model, data = settled()
    before, original = bits(model), [v.numpy() for v in model.trainable_variables]
    seen = []
    measure = perturbation._measure

    def spy(predictions):
        seen.append([v.numpy() for v in model.trainable_variables])
        return measure(predictions)

    monkeypatch.setattr(perturbation, "_measure", spy)
    found = analyses.optimum_width(model, data, [0.0, 0.5, 3.0], directions=2, seed=4)
    assert bits(model) == before
    steps = [
        np.concatenate([(a - b).ravel() for a, b in zip(now, original)]) for now in seen
    ]
    lengths = [np.linalg.norm(step) for step in steps]
    npt.assert_allclose(lengths, [0, 0.5, 3.0] * 2, rtol=1e-4)
    npt.assert_allclose(steps[1] / 0.5, steps[2] / 3.0, atol=1e-5)  # one direction
    assert abs(steps[2] @ steps[5]) < 0.8 * 9  # and another one
    here = analyses.collect(model, data, verbose=0)
    npt.assert_allclose(
        found.losses[0], analyses.ambiguity(here).ensemble_loss, rtol=1e-6
    )
    npt.assert_allclose(found.errors[0], 1 - analyses.accuracies(here).ensemble)
    model.set_weights(seen[5])  # The dense model has no other weights.
    there = analyses.collect(model, data, verbose=0)
    loss = analyses.ambiguity(there).ensemble_loss
    npt.assert_allclose(found.losses[2, 1], loss, rtol=1e-6)
    assert found.losses[2, 1] != found.losses[2, 0]


def single_network(activation="softmax"):
    layers = keras.layers
    inputs = keras.Input((small_models.FEATURES,))
    hidden = layers.BatchNormalization()(layers.Dense(9)(inputs))
    hidden = layers.ReLU()(layers.Dense(8, name="frozen", trainable=False)(hidden))
    outputs = layers.Dense(small_models.CLASSES, activation)(hidden)
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("activation", ["softmax", None])
def test_a_single_network_is_pushed_as_it_is(activation):
    """By a loop over `evaluate`: weights that do not train stay, as does the model."""
    network, (x, y) = single_network(activation), small_models.classification_data(20)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)
    network.compile("sgd", loss, metrics=["accuracy"])
    network.fit(x, y, verbose=0)
    before = bits(network)
    distances = [0.0, 1.0, 3.0]
    found = analyses.optimum_width(network, (x, y), distances, directions=2, seed=3)
    assert bits(network) == before
    original = [v.numpy() for v in network.trainable_variables]
    for column in range(2):
        direction = perturbation._unit_direction(
            original, np.random.default_rng([3, column])
        )
        for row, distance in enumerate(distances):
            for variable, value, v in zip(
                network.trainable_variables, original, direction, strict=True
            ):
                variable.assign(value + distance * v)
            by_keras, accuracy = network.evaluate(x, y, verbose=0)
            npt.assert_allclose(found.losses[row, column], by_keras, rtol=1e-4)
            npt.assert_allclose(found.errors[row, column], 1 - accuracy, atol=1e-6)


def test_networks_and_branches_are_compared():
    model, data = settled()
    networks = {"alone": single_network(), "branch": model.head(1), "all": model}
    found = {
        name: analyses.optimum_width(network, data, [0.0, 2.0], directions=3)
        for name, network in networks.items()
    }
    classes = networks["branch"].predict(data[0], verbose=0).argmax(axis=-1)
    npt.assert_allclose(found["branch"].errors[0], [np.mean(classes != data[1])] * 3)
    axes = analyses.plot_optimum_width(found).axes
    assert [t.get_text() for t in axes[0].get_legend().get_texts()] == list(networks)
    assert len(axes) == 2 and len(axes[1].lines) == 9
    colors = [line.get_color() for line in axes[1].lines]
    assert colors == [f"C{i}" for i in range(3) for _ in range(3)]


def test_what_is_not_pushed():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    data = small_models.classification_data(8)
    with pytest.raises(ValueError, match="must be a functional model"):
        analyses.optimum_width(Subclassed(), data)
    with pytest.raises(ValueError, match="compiled with a loss on logits"):
        analyses.optimum_width(single_network(None), data)
    with pytest.raises(ValueError, match="must be an eh.MultiHeadModel"):
        analyses.optimum_width("network", data)


def test_weights_come_back_after_an_error(monkeypatch):
    model, data = settled()
    before, calls = bits(model), []

    def fail(_):
        calls.append(bits(model))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return 0.0, 0.0

    monkeypatch.setattr(perturbation, "_measure", fail)
    with pytest.raises(KeyboardInterrupt):
        analyses.optimum_width(model, data, [0.0, 2.0])
    assert calls[0] == before != calls[1] and bits(model) == before


def test_bad_perturbations():
    model, data = settled()
    with pytest.raises(ValueError, match="`distances` must be"):
        analyses.optimum_width(model, data, [np.inf])
    for directions in (0, 1.5):
        with pytest.raises(ValueError, match="`directions` must be an integer"):
            analyses.optimum_width(model, data, directions=directions)
    model.trainable = False  # nothing would move, as if the optimum were endless
    with pytest.raises(ValueError, match="must have trainable weights"):
        analyses.optimum_width(model, data)


# ---- Live


def scalars(folder):
    """{tag: {step: value}} of TensorBoard's files."""
    found = {}
    for path in folder.glob("events.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                steps = found.setdefault(value.tag, {})
                steps[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_monitor_tells_logs_and_tensorboard(tmp_path):
    model, data = settled()
    model.compile("sgd", "sparse_categorical_crossentropy")
    monitor = analyses.HeadMonitor(data, log_dir=tmp_path, every=2)
    logs = model.fit(*data, epochs=4, verbose=0, callbacks=[monitor]).history
    assert monitor.epochs == [1, 3] and len(monitor.history) == 2
    written = scalars(tmp_path)
    for found, epoch in zip(monitor.history, (0, 2)):
        accuracies = 1 - found.head_errors
        expected = {
            "val_module_dominance": found.lead,
            "val_head_accuracy_mean": accuracies.mean(),
            "val_head_accuracy_min": accuracies.min(),
            "val_head_accuracy_max": accuracies.max(),
        }
        for name, value in expected.items():
            npt.assert_allclose(logs[name][epoch : epoch + 2], [value] * 2)
            npt.assert_allclose(written[name][epoch], value, rtol=1e-6)
        for head, error in enumerate(found.head_errors):
            tag = f"val_head_error/{head}"
            npt.assert_allclose(written[tag][epoch], error, rtol=1e-6)
    assert "val_head_disagreement" in logs and "val_head_disagreement" in written


def test_of_several_workers_one_writes(tmp_path, monkeypatch):
    model, data = settled()
    model.compile("sgd", "sparse_categorical_crossentropy")
    monkeypatch.setattr(strategies, "task", lambda strategy: (1, 2))
    monitor = analyses.HeadMonitor(data, log_dir=tmp_path)
    logs = model.fit(*data, verbose=0, callbacks=[monitor]).history
    assert "val_module_dominance" in logs and not list(tmp_path.iterdir())


def test_monitor_sees_the_epoch_that_has_just_ended():
    model, data = settled()
    model.compile("sgd", "sparse_categorical_crossentropy")
    monitor = analyses.HeadMonitor(data)
    model.fit(*data, epochs=2, verbose=0, callbacks=[monitor])
    now = analyses.module_dominance(analyses.collect(model, data, verbose=0))
    npt.assert_array_equal(monitor.history[-1].head_errors, now.head_errors)
    with pytest.raises(ValueError, match="`every` must be"):
        analyses.HeadMonitor(data, every=0)


def test_monitor_refuses_several_labels_before_training():
    model = small_models.dense_model(2, "sigmoid")
    x, labels = small_models.classification_data(8)
    data = x, np.eye(small_models.CLASSES)[labels]
    model.compile("sgd", "binary_crossentropy")
    before = bits(model)
    with pytest.raises(ValueError, match="one class per example.*of several labels"):
        model.fit(*data, verbose=0, callbacks=[analyses.HeadMonitor(data)])
    assert bits(model) == before


def test_monitor_looks_at_its_data_before_training():
    model, (x, y) = settled()
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = bits(model)
    endless = tf.data.Dataset.from_tensors((x, y)).repeat()
    for data, message in [
        (endless, "must have an end"),
        ((x, y + 9), "must be whole, from 0 to 3"),
        (iter([(x, y)]), "`data` must be a tf.data.Dataset"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, verbose=0, callbacks=[analyses.HeadMonitor(data)])
        assert bits(model) == before
