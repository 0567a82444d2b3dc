"""Ensembles of models trained apart, and of one model at several times."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests import small_models
from tests.small_models import CLASSES, FEATURES

SPARSE = "sparse_categorical_crossentropy"
layers = keras.layers


def network(units=6, activation="softmax", features=FEATURES, classes=CLASSES):
    inputs = keras.Input((features,), name="x")
    hidden = layers.Dense(units, use_bias=False, name="hidden")(inputs)
    hidden = layers.ReLU()(layers.BatchNormalization(name="norm")(hidden))
    outputs = layers.Dense(classes, activation, name="label")(hidden)
    return shaken(keras.Model(inputs, outputs))


def shaken(model):
    """The model with weights that none of its initializers would draw."""
    model.set_weights([np.random.uniform(0.2, 1, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "exponential", None])
@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_prediction_is_the_mean_of_the_models(of, activation):
    models = [network(6, activation), network(6, activation), network(9, activation)]
    ensemble = eh.combine(models, eh.ensemblers.Mean(of))
    assert ensemble.links == (activation or "linear")
    x, _ = small_models.classification_data()
    each = np.stack([np.array(model(x), "float64") for model in models], 1)
    npt.assert_allclose(ensemble.head_predictions(x), each, rtol=1e-5, atol=1e-6)
    if of == "probabilities" or activation is None:
        expected = each.mean(1)
    elif activation == "sigmoid":
        odds = np.exp(np.log(each / (1 - each)).mean(1))
        expected = odds / (1 + odds)
    else:
        expected = np.exp(np.log(each).mean(1))
        if activation == "softmax":
            expected /= expected.sum(-1, keepdims=True)
    npt.assert_allclose(ensemble.predict(x, verbose=0), expected, rtol=1e-4)


def test_models_are_copied_and_counted_in_full():
    models = [network(6), network(9)]
    ensemble = eh.combine(models)
    kept = [model.get_weights() for model in models]
    x, y = small_models.classification_data()
    ensemble.compile("adam", SPARSE, ensemble_loss=eh.losses.MultipleChoice(1))
    first, *_, last = ensemble.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert last < first
    for model, weights in zip(models, kept):
        for now, then in zip(model.get_weights(), weights):
            npt.assert_array_equal(now, then)
    sizes = [eh.profile(model).parameters for model in models]
    assert eh.profile(ensemble).parameters == sum(sizes)
    assert eh.profile(ensemble).flops >= sum(eh.profile(m).flops for m in models)


def test_selecting_exporting_and_loading(tmp_path):
    models = [network() for _ in range(4)]
    ensemble = eh.combine(models)
    x, y = small_models.classification_data(50)
    ensemble.compile("sgd", SPARSE)
    chosen = eh.greedy_heads(ensemble, (x, y), max_heads=2)
    expected = np.mean([np.array(models[i](x)) for i in chosen], axis=0)
    path = eh.export(ensemble, tmp_path / "serving", heads=chosen)
    served = tf.saved_model.load(path).signatures["serving_default"](x=tf.constant(x))
    npt.assert_allclose(served["label"], expected, rtol=1e-4, atol=1e-6)
    ensemble.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    npt.assert_allclose(again(x), ensemble(x), rtol=1e-6)
    npt.assert_allclose(again.head(2)(x), models[2](x), rtol=1e-5)


@pytest.mark.parametrize("kind", [dict, list])
def test_several_inputs_and_outputs(kind):
    def structure(names, tensors):
        return dict(zip(names, tensors)) if kind is dict else list(tensors)

    def one():
        sides = keras.Input((3,), name="left"), keras.Input((2,), name="right")
        joined = layers.Concatenate()(list(sides))
        outputs = (
            layers.Dense(3, "softmax", name="label")(joined),
            layers.Dense(1, name="size")(joined),
        )
        return keras.Model(
            structure(("left", "right"), sides), structure(("label", "size"), outputs)
        )

    models = [one(), one()]
    ensemble = eh.combine(models)
    arrays = [np.random.normal(size=(5, n)).astype("float32") for n in (3, 2)]
    x = structure(("left", "right"), arrays)
    expected = [tf.nest.flatten(model(x)) for model in models]
    got = ensemble(x)
    assert isinstance(got, kind)
    for ours, *theirs in zip(tf.nest.flatten(got), *expected):
        npt.assert_allclose(ours, np.mean(theirs, axis=0), rtol=1e-5, atol=1e-6)


def test_heads_of_multi_headed_models_and_sequentials():
    tree = small_models.dense_model(2)
    plain = keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(CLASSES, "softmax")]
    )
    ensemble = eh.combine([tree.head(0), tree.head(1), plain])
    x, _ = small_models.classification_data()
    expected = (2 * np.array(tree(x)) + np.array(plain(x))) / 3
    npt.assert_allclose(ensemble(x), expected, rtol=1e-5)


def test_gate_sees_the_inputs():
    ensemble = eh.combine([network(), network()], "gated")
    x, y = small_models.classification_data()
    ensemble.compile("adam", SPARSE, ensemble_loss=eh.losses.OnTheFly())
    before = ensemble.ensembler.get_weights()
    ensemble.fit(x, y, verbose=0)
    assert (before[0] != ensemble.ensembler.get_weights()[0]).any()


def test_models_that_do_not_fit():
    with pytest.raises(ValueError, match="`models` must hold at least one"):
        eh.combine([])
    with pytest.raises(ValueError, match="take the same inputs.*6.*and .*7.*model 1"):
        eh.combine([network(), network(features=7)])
    with pytest.raises(ValueError, match="give the same outputs.*4.*5.*of model 2"):
        eh.combine([network(), network(), network(classes=5)])
    with pytest.raises(ValueError, match="give the same outputs.*softmax.*linear"):
        eh.combine([network(), network(activation=None)])
    with pytest.raises(ValueError, match=r"combine their heads.*with 2 heads"):
        eh.combine([small_models.dense_model(2)])


# ---- Snapshots


def test_snapshots_are_the_models_at_the_ends_of_cycles():
    model = network()
    x, y = small_models.classification_data(24)
    cycle, steps = 2, 3  # epochs, and steps in each
    schedule = keras.optimizers.schedules.CosineDecayRestarts(
        0.5, first_decay_steps=cycle * steps, t_mul=1.0, m_mul=1.0
    )
    model.compile(keras.optimizers.SGD(schedule), SPARSE)
    seen, rates = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(float(schedule(int(self.model.optimizer.iterations))))

        def on_epoch_end(self, epoch, logs=None):
            seen.append(np.array(self.model(x)))

    snapshots = eh.Snapshots(cycle)
    options = {"batch_size": 8, "verbose": 0, "callbacks": [snapshots, Watch()]}
    model.fit(x, y, epochs=7, **options)
    # alpha / 2 (cos(pi (t mod T) / T) + 1), the paper's equation 2.
    t = np.arange(7 * steps) % (cycle * steps)
    expected = 0.25 * (np.cos(np.pi * t / (cycle * steps)) + 1)
    npt.assert_allclose(rates, expected, atol=1e-6)
    assert len(snapshots.models) == 3
    for snapshot, then in zip(snapshots.models, seen[1::2]):
        npt.assert_allclose(snapshot(x), then, rtol=1e-5)
    assert np.abs(seen[1] - seen[5]).max() > 1e-3
    for last in (None, 2):
        ensemble = snapshots.ensemble(last)
        taken = seen[1:6:2] if last is None else seen[3:6:2]
        npt.assert_allclose(ensemble(x), np.mean(taken, axis=0), rtol=1e-4)


def test_snapshots_that_cannot_be():
    with pytest.raises(ValueError, match="`cycle_epochs` must be an integer"):
        eh.Snapshots(0)
    snapshots = eh.Snapshots(2)
    with pytest.raises(ValueError, match="number of snapshots, 0.*last=None"):
        snapshots.ensemble()
    model = small_models.dense_model(2)
    model.compile("sgd", SPARSE)
    x, y = small_models.classification_data()
    with pytest.raises(ValueError, match="must be plain models"):
        model.fit(x, y, callbacks=[snapshots], verbose=0)
