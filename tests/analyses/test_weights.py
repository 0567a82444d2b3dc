"""Sample weights: an example of weight 3 counts as three of them would."""

import dataclasses

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads import analyses
from tests import small_models


def collect(model, data, **kwargs):
    return analyses.collect(model, data, batch_size=7, verbose=0, **kwargs)


def leaves(result):
    """All numbers of a result."""
    if dataclasses.is_dataclass(result):
        return [getattr(result, field.name) for field in dataclasses.fields(result)]
    return [result]


def weighted_and_repeated(link, examples=30):
    """The same predictions twice: with whole weights, and each that many times."""
    logits = 2 * np.random.normal(size=(examples, 5, 4))
    shape = examples if link == "softmax" else (examples, 4)
    labels = np.random.randint(0, 4 if link == "softmax" else 2, shape)
    weights = np.random.randint(1, 5, examples)
    make = analyses.HeadPredictions.from_logits
    weighted = make(labels, logits, link, weights=weights)
    repeated = make(labels.repeat(weights, 0), logits.repeat(weights, 0), link)
    return weighted, repeated


SEVERAL = [
    analyses.ambiguity,
    analyses.output_entropies,
    lambda said: analyses.find_specialists(said, said, size=2, candidates=9),
]
ONE = [
    *SEVERAL,
    analyses.accuracies,
    analyses.disagreement,
    analyses.class_assignment,
    analyses.confusion_matrices,
    analyses.module_dominance,
    analyses.drop_heads,
    analyses.calibration,
    lambda said: analyses.calibration(said, head=1, bins=4),
]


@pytest.mark.parametrize(
    "link, analysis",
    [("softmax", one) for one in ONE] + [("sigmoid", one) for one in SEVERAL],
)
def test_weights_are_repetitions(link, analysis):
    weighted, repeated = weighted_and_repeated(link)
    found, expected = leaves(analysis(weighted)), leaves(analysis(repeated))
    plain = leaves(analysis(dataclasses.replace(weighted, weights=None)))
    for one, other in zip(found, expected, strict=True):
        npt.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
    assert any(not np.allclose(a, b, equal_nan=True) for a, b in zip(found, plain))


def test_analyses_of_models_take_the_weights_of_their_data():
    model = small_models.dense_model(3)
    x, labels = small_models.classification_data(20)
    weights = np.arange(1, 21) % 4 + 1
    data = x, labels, weights.astype("float32")
    repeated = x.repeat(weights, 0), labels.repeat(weights)
    found, expected = (
        analyses.optimum_width(model, one, [0.0, 4.0], directions=2)
        for one in (data, repeated)
    )
    npt.assert_allclose(found.losses, expected.losses, rtol=1e-5)
    npt.assert_allclose(found.errors, expected.errors)
    found, expected = (
        analyses.evaluate_any_time(model, collect(model, one))
        for one in (data, repeated)
    )
    npt.assert_allclose(found.accuracies, expected.accuracies)
    model.compile(weighted_metrics=["accuracy"], loss="sparse_categorical_crossentropy")
    logs = model.evaluate(x, labels, sample_weight=data[2], verbose=0, return_dict=True)
    npt.assert_allclose(found.accuracies[-1], logs["accuracy"], rtol=1e-6)


def test_every_form_of_weighted_data_gives_the_same():
    model = small_models.dense_model(2)
    x, labels = small_models.classification_data(24)
    weights = np.random.uniform(0.5, 2, 24).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices((x, labels, weights)).batch(10)
    for data in (
        (x, labels, list(weights)),
        (x, labels, weights[:, None]),
        small_models.Batches(x, labels, weights),
        dataset,
    ):
        said = collect(model, data)
        npt.assert_allclose(said.weights, weights, rtol=1e-6)
        npt.assert_array_equal(said.labels, labels)


def test_what_has_no_weight_is_left_out():
    """As recipes fill up batches for TPUs; what is left weighs the same."""
    model = small_models.dense_model(2)
    x, labels = small_models.classification_data(12)
    there = np.arange(12) % 3 > 0
    said = collect(model, (x, labels, there.astype("float32")))
    assert said.weights is None and said.num_examples == there.sum()
    expected = collect(model, (x[there], labels[there]))
    npt.assert_array_equal(said.labels, expected.labels)
    npt.assert_allclose(said.head_logits, expected.head_logits, atol=1e-6)
    assert analyses.confusion_matrices(said).dtype == np.int64


@pytest.mark.parametrize("form", ["class numbers", "one-hot", "several labels"])
def test_labels_that_have_no_weight_may_be_anything(form):
    several = form == "several labels"
    model = small_models.dense_model(2, "sigmoid" if several else "softmax")
    x, labels = small_models.classification_data(12)
    if form != "class numbers":
        labels = np.eye(small_models.CLASSES)[labels]
    labels = labels.astype("float32")
    weights = np.where(np.arange(12) < 3, 0, 2).astype("float32")
    expected = collect(model, (x[3:], labels[3:], weights[3:]))
    for value in (255, -1, np.nan):
        labels[:3] = value
        said = collect(model, (x, labels, weights))
        npt.assert_array_equal(said.labels, expected.labels)
        npt.assert_array_equal(said.weights, expected.weights)
    with pytest.raises(ValueError, match="Labels of output .* must be"):
        collect(model, (x, labels))


def test_weights_of_positions_and_of_whole_sequences():
    model = small_models.sequence_model()
    x = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 7, 8]], "int32")
    labels = np.arange(12).reshape(3, 4) % 3
    whole = np.array([1.0, 2.0, 3.0])
    each = np.random.uniform(1, 2, [3, 4])
    for weights, full in ((whole, whole[:, None] + 0 * x), (each, each)):
        said = collect(model, (x, labels, weights))
        npt.assert_allclose(said.weights, full[x != 0])


def test_weights_of_one_of_several_outputs():
    model = small_models.several_outputs_model(dict)
    x = {"left": np.ones([6, 3]), "right": np.ones([6, 2])}
    y = {"label": np.arange(6) % 3, "size": np.zeros([6, 1])}
    for weights, expected in [
        ({"label": np.arange(1, 7.0)}, np.arange(1, 7)),
        ({"size": np.arange(1, 7.0)}, None),
        (np.arange(1, 7.0), np.arange(1, 7)),
    ]:
        said = collect(model, (x, y, weights), output="label")
        npt.assert_array_equal(said.weights, expected)


def test_a_report_says_that_it_is_weighted(tmp_path):
    model = small_models.dense_model(2)
    x, labels = small_models.classification_data(20)
    data = x, labels, np.linspace(1, 2, 20)
    weighted = eh.report(model, data, tmp_path / "a.html", verbose=0)
    plain = eh.report(model, data[:2], tmp_path / "b.html", verbose=0)
    said = collect(model, data)
    words = "weigh by their sample weights"
    assert words in weighted.read_text("utf-8") and words not in plain.read_text(
        "utf-8"
    )
    assert f"{analyses.accuracies(said).ensemble:.2%}" in weighted.read_text("utf-8")
