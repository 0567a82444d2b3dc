"""One pass of a model over data: every example once, whatever the form of the data."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads import analyses
from ensemble_heads.keras_api import keras
from tests import small_models


def collect(model, data, **kwargs):
    return analyses.collect(model, data, **{"verbose": 0, "batch_size": 7, **kwargs})


def same(one, other):
    npt.assert_array_equal(one.labels, other.labels)
    npt.assert_allclose(one.head_logits, other.head_logits, atol=1e-6)
    npt.assert_allclose(one.ensemble_logits, other.ensemble_logits, atol=1e-6)


@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_collected_predictions_are_those_of_the_heads(of):
    model = small_models.dense_model(3, ensembler=eh.ensemblers.Mean(of))
    x, labels = small_models.classification_data(24)
    said = collect(model, (x, labels))
    npt.assert_array_equal(said.labels, labels)
    for i in range(3):
        alone = model.head(i).predict(x, verbose=0)
        npt.assert_allclose(said.head_probabilities[:, i], alone, atol=1e-6)
    whole = model.predict(x, verbose=0)
    npt.assert_allclose(said.ensemble_probabilities, whole, atol=1e-6)
    some = model.select_heads([2, 0]).predict(x, verbose=0)
    npt.assert_array_equal(said.classes_of([[2, 0]])[0], some.argmax(axis=-1))
    assert said.head_logits.dtype == said.ensemble_logits.dtype == np.float32


def test_every_form_of_data_gives_the_same():
    model = small_models.dense_model(2)
    x, labels = small_models.classification_data(24)
    expected = collect(model, (x, labels))
    hot = np.eye(small_models.CLASSES)[labels].astype("float32")
    weights = np.ones(24, "float32")
    dataset = tf.data.Dataset.from_tensor_slices((x, labels)).batch(10)
    filtered = dataset.filter(lambda *_: True)  # of unknown length
    forms = [(x, labels[:, None]), (x, hot), (x, list(labels), weights), dataset]
    for data in [*forms, filtered, small_models.Batches(x, labels), [x, labels]]:
        same(collect(model, data), expected)
    assert collect(model, dataset, verbose=1).num_examples == 24


@pytest.mark.parametrize("kind", [dict, list])
def test_several_outputs_by_name(kind):
    model = small_models.several_outputs_model(kind)
    left, right = np.random.normal(size=(9, 3)), np.random.normal(size=(9, 2))
    labels, sizes = np.arange(9) % 3, np.zeros([9, 1])
    x = {"left": left, "right": right} if kind is dict else [left, right]
    y = {"label": labels, "size": sizes} if kind is dict else [labels, sizes]
    said = collect(model, (x, y), output="label", batch_size=4)
    values = model.predict(x, verbose=0)["label" if kind is dict else 0]
    npt.assert_allclose(said.ensemble_probabilities, values, atol=1e-6)
    npt.assert_array_equal(said.labels, labels)
    with pytest.raises(ValueError, match="classifier's.*Received: a linear output"):
        collect(model, (x, y), output="size")
    with pytest.raises(ValueError, match="`output` must be one of"):
        collect(model, (x, y))


@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_one_sigmoid_unit_is_two_classes(of):
    ensembler = eh.ensemblers.Mean(of)
    model = small_models.dense_model(3, "sigmoid", 1, ensembler=ensembler)
    x, labels = small_models.classification_data(20, 2)
    said = collect(model, (x, labels[:, None]))
    whole = model.predict(x, verbose=0)[:, 0]
    npt.assert_allclose(said.ensemble_probabilities[:, 1], whole, atol=1e-6)
    some = model.select_heads([0, 2]).predict(x, verbose=0)[:, 0]
    npt.assert_array_equal(said.classes_of([[0, 2]])[0], some > 0.5)
    loss = keras.losses.binary_crossentropy(labels[:, None], whole[:, None])
    found = analyses.ambiguity(said).ensemble_loss
    npt.assert_allclose(found, np.mean(loss), rtol=1e-4)
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    accuracy = model.evaluate(x, labels[:, None], verbose=0, return_dict=True)
    npt.assert_allclose(analyses.accuracies(said).ensemble, accuracy["accuracy"])


def test_several_labels():
    model = small_models.dense_model(2, "sigmoid")
    x, _ = small_models.classification_data(12)
    labels = np.random.randint(0, 2, [12, small_models.CLASSES])
    said = collect(model, (x, labels))
    assert said.link == "sigmoid" and said.labels.dtype == bool
    npt.assert_array_equal(said.labels, labels)
    whole = model.predict(x, verbose=0)
    npt.assert_allclose(said.ensemble_probabilities, whole, atol=1e-6)


def test_raw_outputs_mean_what_the_loss_says():
    x, labels = small_models.classification_data(12)
    model = small_models.dense_model(2, "linear")
    with pytest.raises(ValueError, match="compiled with a loss on logits"):
        collect(model, (x, labels))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=3)
    model.compile("sgd", loss)
    said = collect(model, (x, labels))
    assert said.form == "logits"
    npt.assert_array_equal(said.labels, labels[labels != 3])
    whole = model.predict(x, verbose=0)[labels != 3]
    npt.assert_allclose(said.ensemble_logits, whole, atol=1e-6)


def test_positions_of_sequences_are_examples_unless_masked():
    model = small_models.sequence_model()
    x = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 7, 8]], "int32")
    there = x != 0
    labels = np.where(there, np.arange(12).reshape(3, 4) % 3, -1)
    said = collect(model, (x, labels), batch_size=2)
    npt.assert_array_equal(said.labels, labels[there])
    whole = model.predict(x, verbose=0)
    npt.assert_allclose(said.ensemble_probabilities, whole[there], atol=1e-6)
    heads = np.array(model.head_predictions(x))[:, 1][there]
    npt.assert_allclose(said.head_probabilities[:, 1], heads, atol=1e-6)


def test_an_ensembler_with_weights_is_heard_but_not_in_part():
    model = small_models.dense_model(3, ensembler=small_models.Weighting())
    x, labels = small_models.classification_data(12)
    said = collect(model, (x, labels))
    whole = model.predict(x, verbose=0)
    npt.assert_allclose(said.ensemble_probabilities, whole, atol=1e-5)
    with pytest.raises(ValueError, match="ensembler without weights"):
        analyses.evaluate_any_time(model, said)


def test_bad_data():
    model = small_models.dense_model(2)
    x, labels = np.ones([6, small_models.FEATURES]), np.arange(6) % 4
    endless = tf.data.Dataset.from_tensors((x, labels)).repeat()
    nothing = tf.data.Dataset.from_tensors((x, labels)).take(0)
    unbatched = tf.data.Dataset.from_tensor_slices((x.astype("float32"), labels))
    soft = np.full([6, small_models.CLASSES], 0.25)
    for data, message in [
        (endless, "must have an end"),
        (nothing, "at least one batch"),
        ((x[:0], labels[:0]), "at least one batch"),
        ((x, labels[:5]), "arrays of one length"),
        ((x,), "must hold labels"),
        (x, "`data` must be a tf.data.Dataset.*data of class ndarray"),
        (iter([(x, labels)]), "`data` must be a tf.data.Dataset"),
        ((x, labels + 2), "whole, from 0 to 3"),
        ((x, labels - 1), "whole, from 0 to 3"),
        ((x, labels + 0.5), "whole, from 0 to 3"),
        ((x, soft), "must be 0 or 1"),
        ((x, np.ones([6, small_models.CLASSES])), "must be one-hot"),
        ((x, np.ones([6, 2])), "must be of shape"),
        ((x, labels.astype(str)), "must be numbers.*labels of type <U"),
        ((x[0], labels), "must hold batches"),
        ((x[0], 2), "first axis of an array is the batch"),
        ((x.tolist(), labels), "Received: a float in place of an array"),
        (unbatched, r"needs `.batch.*an input of shape \(6,\) for \(None, 6\)"),
        ((x, labels, np.ones(5)), "arrays of one length"),
        ((x, labels, np.ones([6, 2])), r"numbers of shape \(6,\).*shape \(6, 2\)"),
        ((x, labels, np.full(6, "1")), "Sample weights.*must be numbers"),
        ((x, labels, -np.ones(6)), "`weights`.* at least 0, and not all 0"),
        ((x, labels, np.full(6, np.nan)), "`weights`.* must be finite"),
        ((x, labels, np.zeros(6)), "at least one example"),
    ]:
        with pytest.raises(ValueError, match=message):
            collect(model, data)
    with pytest.raises(ValueError, match="`batch_size` must be an integer"):
        collect(model, (x, labels), batch_size=0)
    with pytest.raises(ValueError, match="must be an eh.MultiHeadModel; eh.combine"):
        collect(model.head(0), (x, labels))
