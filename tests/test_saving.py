"""The ways to save a multi-headed model that lose nothing, and those that would."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import KERAS_3, LEGACY_OPTIMIZERS, keras
from tests import small_models
from tests.small_models import Weighting, dense_model

SPARSE = "sparse_categorical_crossentropy"


def test_checkpoints_of_a_model_that_was_only_fitted(tmp_path):
    model = dense_model(2)
    model.compile("adam", SPARSE)
    x, y = small_models.classification_data()
    path = tmp_path / "{epoch}.keras"
    checkpoints = keras.callbacks.ModelCheckpoint(str(path))
    model.fit(x, y, epochs=2, callbacks=[checkpoints], verbose=0)
    loaded = keras.models.load_model(tmp_path / "2.keras")
    expected = model.evaluate(x, y, verbose=0)
    npt.assert_allclose(loaded.evaluate(x, y, verbose=0), expected, rtol=1e-6)


@pytest.mark.parametrize("structure", [None, list, dict])
def test_tensorflow_checkpoints_hold_every_weight(structure, tmp_path):
    def make():
        if structure is None:
            return dense_model(2, ensembler=Weighting())
        layers = [Weighting(), Weighting()]
        if structure is dict:
            layers = dict(zip(("label", "size"), layers))
        return small_models.several_outputs_model(structure, ensembler=layers)

    model, other = make(), make()
    for i, weight in enumerate(model.weights):
        weight.assign(tf.fill(weight.shape, float(i)))
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=other).read(path).assert_consumed()
    for i, weight in enumerate(other.weights):
        npt.assert_array_equal(weight, np.full(weight.shape, i))


@pytest.mark.parametrize("name", ["model", "model.h5", "model.tf"])
def test_formats_that_lose_how_a_model_trains_are_refused(name, tmp_path):
    model = dense_model(2)
    model.compile("adam", SPARSE)
    with pytest.raises(ValueError, match=r"must end in `.keras`.*`eh.export`"):
        model.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not LEGACY_OPTIMIZERS, reason="only Keras 2 has legacy optimizers")
def test_legacy_optimizer_is_saved_with_a_warning(tmp_path):
    model = dense_model(2)
    model.compile(keras.optimizers.legacy.Adam(), SPARSE)
    with pytest.warns(UserWarning, match="starts with new moments.*optimizer=Adam"):
        model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").num_heads == 2


def two_inputs():
    number = keras.Input((3,), name="number")
    word = keras.Input((), dtype="int32", name="word")
    embedded = keras.layers.Embedding(5, 4, name="embedded")(word)
    joined = keras.layers.Concatenate(name="joined")([number, embedded])
    scores = keras.layers.Dense(2, activation="softmax", name="scores")(joined)
    single = keras.Model({"number": number, "word": word}, scores)
    return eh.multi_head(single, "joined", num_heads=2)


@pytest.mark.parametrize("make", [lambda: dense_model(2), two_inputs])
def test_keras_own_export_needs_no_call_before(make, tmp_path):
    model = make()
    if not KERAS_3:  # it looks at what the model was called with
        model.predict(sample(model), verbose=0)
    model.export(str(tmp_path / "exported"))
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    npt.assert_allclose(loaded.serve(sample(model)), model(sample(model)), rtol=1e-6)


def sample(model):
    if not isinstance(model.trunk.input, dict):
        return tf.random.stateless_normal([5, *model.trunk.input.shape[1:]], [0, 0])
    numbers = tf.random.stateless_normal([5, 3], [0, 0])
    return {"number": numbers, "word": tf.range(5)}


def test_folding_keeps_the_record_of_the_width():
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, name="hidden")(inputs)
    norm = keras.layers.BatchNormalization()(keras.layers.Dense(4)(hidden))
    single = keras.Model(inputs, keras.layers.Dense(3)(norm))
    model = eh.multi_head(single, "hidden", width_multiplier=0.5)
    assert eh.fold_batch_norm(model).width_multiplier == 0.5


@pytest.mark.parametrize("index", ["a", 1.5, None])
def test_a_head_that_is_no_number(index):
    with pytest.raises(ValueError, match="must be an integer from 0 to 1. Received"):
        dense_model(2).head(index)


def test_folder_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`directory` must lie in a folder.*file: "):
        eh.export(dense_model(2), tmp_path / "file" / "1")


def test_metrics_of_several_outputs_are_named_as_in_keras():
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, name="hidden")(inputs)
    outputs = [
        keras.layers.Dense(3, activation="softmax", name=name)(hidden)
        for name in ("label", "other")
    ]
    single = keras.Model(inputs, outputs)
    arguments = {
        "loss": [SPARSE, SPARSE],
        "metrics": [["accuracy"], ["accuracy"]],
        "weighted_metrics": [["accuracy"], ["accuracy"]],
    }
    data = np.ones((4, 6)), [np.zeros(4), np.ones(4)]
    logs = []
    for model in (single, eh.multi_head(single, "hidden")):
        model.compile("sgd", **arguments)
        logs.append(model.evaluate(*data, verbose=0, return_dict=True))
    assert set(logs[0]) == set(logs[1])
