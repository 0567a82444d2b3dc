"""The evaluation of long runs: means over views, and batches of one size."""

import contextlib
import types

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from recipes import evaluation
from recipes.classification import TopFiveExperiment
from recipes.experiment import TrainingSettings, evaluation_copy
from recipes.full_batches import fill
from recipes.sweeps import Run

pytestmark = pytest.mark.slow

EXAMPLES, VIEWS, FEATURES, CLASSES = 11, 3, 6, 7
SIZE = 4
PROGRESS = types.SimpleNamespace(
    evaluating=lambda: contextlib.nullcontext(keras.callbacks.Callback())
)
RUN = Run("any", TrainingSettings(models=("any",), evaluation_batch_size=SIZE), 0)


class Study(TopFiveExperiment):
    """Random inputs of several views, the first of which is evaluated alone."""

    def __init__(self):
        random = np.random.default_rng(0)
        size = (EXAMPLES, VIEWS, FEATURES)
        self.inputs = random.normal(size=size).astype("float32")
        self.labels = random.integers(CLASSES, size=EXAMPLES)

    def evaluation_data(self, run):
        return self._batches(self.inputs[:, 0], run.settings.evaluation_batch_size)

    def evaluation_examples(self, run):
        return EXAMPLES

    def views(self, run):
        return VIEWS

    def view_data(self, run, batch_size):
        return self._batches(self.inputs, batch_size)

    def _batches(self, inputs, size):
        return tf.data.Dataset.from_tensor_slices((inputs, self.labels)).batch(size)


def network(kind):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((FEATURES,))
    x = keras.layers.Dense(8, activation="relu", name="trunk")(inputs)
    x = keras.layers.Dense(8, activation="tanh", kernel_initializer="he_normal")(x)
    x = keras.layers.Dense(CLASSES, kernel_initializer="he_normal")(x)
    model = keras.Model(inputs, keras.layers.Softmax()(x))
    if kind == "single":
        return model
    ensembler = {"heads": "mean", "logits": eh.ensemblers.Mean(of="logits")}[kind]
    return eh.multi_head(model, "trunk", 2, ensembler=ensembler, seed=0)


def evaluator(model, study, **options):
    copy = evaluation_copy(model)
    study.compile_evaluation(copy, RUN)
    return evaluation.Evaluator(study, RUN, copy, PROGRESS, **options)


def expected(labels, ensemble, heads=None):
    """The metrics by NumPy, of probabilities `[examples, (heads,) classes]`."""
    examples = np.arange(len(labels))
    order = np.argsort(-ensemble, axis=-1)
    found = {
        "accuracy": (order[:, 0] == labels).mean(),
        "top_5_accuracy": (order[:, :5] == labels[:, np.newaxis]).any(axis=1).mean(),
        "cross_entropy": -np.log(ensemble[examples, labels]).mean(),
        "examples": len(labels),
    }
    if heads is not None:
        right = heads.argmax(-1) == labels[:, np.newaxis]
        found["oracle_accuracy"] = right.any(axis=1).mean()
        found["mean_head_accuracy"] = right.mean()
    return found


@pytest.mark.parametrize("kind", ["single", "heads", "logits"])
@pytest.mark.parametrize("fixed", [False, True])
def test_every_example_counts_once_whatever_fills_its_batch(kind, fixed):
    study, model = Study(), network(kind)
    values = evaluator(model, study, fixed=fixed)()
    inputs = study.inputs[:, 0]
    heads = None if kind == "single" else np.array(model.head_predictions(inputs))
    said = np.array(model(inputs))
    assert values == pytest.approx(expected(study.labels, said, heads), rel=1e-5)


@pytest.mark.parametrize("kind", ["single", "heads", "logits"])
@pytest.mark.parametrize("fixed", [False, True])
def test_predictions_are_averaged_over_views_before_the_metrics(kind, fixed):
    study, model = Study(), network(kind)
    values = evaluator(model, study, fixed=fixed).over_views()
    rows = study.inputs.reshape(-1, FEATURES)
    said = np.array(model(rows)).reshape(EXAMPLES, VIEWS, CLASSES).mean(axis=1)
    heads = None
    if kind != "single":
        heads = np.array(model.head_predictions(rows))
        heads = heads.reshape(EXAMPLES, VIEWS, 2, CLASSES).mean(axis=1)
    found = expected(study.labels, said, heads)
    found = {f"views_{name}": value for name, value in found.items()}
    assert values == pytest.approx(found, rel=1e-5)


def test_without_views_there_is_nothing_to_average(monkeypatch):
    study = Study()
    monkeypatch.setattr(study, "views", lambda run: 1)
    assert evaluator(network("single"), study).over_views() == {}


def test_batches_are_filled_up_with_what_does_not_count():
    x, y = np.arange(7.0), np.arange(7) + 10
    data = tf.data.Dataset.from_tensor_slices(({"x": x}, y)).batch(3)
    filled = fill(data, 3)
    shapes = [spec.shape.as_list() for spec in tf.nest.flatten(filled.element_spec)]
    assert shapes == [[3]] * 3
    *_, (inputs, labels, weights) = filled.as_numpy_iterator()
    assert weights.tolist() == [1, 0, 0] and len(list(filled)) == 3
    assert inputs["x"].tolist() == [6, 6, 6] and labels.tolist() == [16, 16, 16]
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most"):
        list(fill(data, 2))


def test_replicas_share_filled_batches_evenly(monkeypatch):
    seen = []
    workers = types.SimpleNamespace(
        strategy=types.SimpleNamespace(num_replicas_in_sync=3),
        share=lambda data: seen.append(data) or data,
    )
    monkeypatch.setattr(evaluation, "workers_of", lambda settings: workers)
    study, model = Study(), network("single")
    values = evaluator(model, study)()
    sizes = [len(labels) for _, labels, _ in seen[0]]
    assert sizes == [6, 6, 6]  # of 4, 4 and 3: two for each replica
    said = np.array(model(study.inputs[:, 0]))
    assert values == pytest.approx(expected(study.labels, said), rel=1e-5)
