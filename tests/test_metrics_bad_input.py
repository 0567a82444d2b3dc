"""What metrics say to bad arguments, shapes and values."""

import numpy as np
import pytest
import tensorflow as tf

from ensemble_heads import metrics

MAKE = {
    "gap": lambda **kwargs: metrics.GlobalAveragePrecision(**kwargs),
    "map": lambda **kwargs: metrics.MeanAveragePrecision(5, **kwargs),
    "hit_at_1": lambda **_: metrics.HitAtOne(),
    "perr": lambda **_: metrics.PrecisionAtEqualRecall(),
}
EACH = pytest.mark.parametrize("make", MAKE.values(), ids=list(MAKE))
POOLED = pytest.mark.parametrize("make", [MAKE["gap"], MAKE["map"]], ids=["gap", "map"])


def labels_and_scores():
    return np.eye(5, dtype="float32")[:4], np.random.normal(size=(4, 5))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"top_k": 0}, "`top_k` must be an int of at least 1. Received: top_k=0"),
        ({"top_k": 2.5}, "`top_k` must be an int"),
        ({"top_k": True}, "`top_k` must be an int"),
        ({"max_examples": 0}, "`max_examples` must be an int of at least 1"),
        ({"refresh": -1}, "`refresh` must be at least 0. Received: refresh=-1"),
        ({"refresh": float("nan")}, "`refresh` must be at least 0"),
    ],
)
@POOLED
def test_bad_arguments(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_bad_arguments_of_one_metric():
    with pytest.raises(ValueError, match="`num_classes` must be an int"):
        metrics.MeanAveragePrecision("5")
    with pytest.raises(ValueError, match="`num_classes` must be >= 1"):
        metrics.MeanAveragePrecision(0)
    with pytest.raises(ValueError, match="`classes_without_positives` must be one of"):
        metrics.MeanAveragePrecision(5, classes_without_positives="nan")
    with pytest.raises(ValueError, match="`examples_without_labels` must be one of"):
        metrics.PrecisionAtEqualRecall("nan")


@EACH
def test_wrong_shapes(make):
    metric = make()
    y_true, y_pred = labels_and_scores()
    with pytest.raises(ValueError, match=r"must be of shape \[batch, classes\]"):
        metric.update_state(y_true.argmax(-1), y_pred)
    with pytest.raises(ValueError, match=r"must be of shape \[batch, classes\]"):
        metric.update_state(y_true[None], y_pred[None])
    with pytest.raises(ValueError, match=r"same shape.*\(4, 4\).*\(4, 5\)"):
        metric.update_state(y_true[:, :4], y_pred)
    with pytest.raises(ValueError, match="same shape"):
        metric.update_state(y_true[:3], y_pred)
    with pytest.raises(ValueError, match="floating dtype. Received: int32"):
        metric.update_state(y_true, y_pred.astype("int32"))
    with pytest.raises(ValueError, match="one number per example"):
        metric.update_state(y_true, y_pred, sample_weight=np.ones((4, 5)))
    with pytest.raises(ValueError, match="as many entries"):
        metric.update_state(y_true, y_pred, sample_weight=np.ones(3))


def test_another_number_of_classes():
    with pytest.raises(ValueError, match="`num_classes` must be the last axis.*=6"):
        metrics.MeanAveragePrecision(6).update_state(*labels_and_scores())


def spoilt(kind):
    y_true, y_pred = labels_and_scores()
    weights = np.ones(4)
    if kind == "score":
        y_pred[1, 2] = np.nan
    elif kind == "label":
        y_true[1, 2] = 0.5
    elif kind == "missing label":
        y_true[1, 2] = np.nan
    else:
        weights[1] = {"negative weight": -1.0, "weight": np.nan}[kind]
    return y_true, y_pred, weights


@pytest.mark.shared_out
@pytest.mark.parametrize(
    "jit_compile", [None, False, True], ids=["eager", "graph", "xla"]
)
@pytest.mark.parametrize(
    "kind, message",
    [
        ("score", "`y_pred` must not be NaN.*Received: other values in 1 batches"),
        ("label", "`y_true` must be multi-hot"),
        ("missing label", "`y_true` must be multi-hot"),
        ("weight", "`sample_weight` must be finite"),
        ("negative weight", "`sample_weight` must be finite"),
    ],
)
@EACH
def test_bad_values_are_named_and_never_ranked(make, kind, message, jit_compile):
    metric = make(max_examples=10)

    def step(*batch):
        metric.update_state(*batch)
        return metric.result()

    if jit_compile is None:
        metric.update_state(*spoilt(kind))
    else:
        value = tf.function(step, jit_compile=jit_compile)(
            *map(tf.constant, spoilt(kind))
        )
        assert np.isnan(value)
    with pytest.raises(ValueError, match=f"`{metric.name}`: {message}"):
        metric.result()
    metric.reset_state()
    metric.update_state(*labels_and_scores())
    assert np.isfinite(metric.result())


@pytest.mark.parametrize(
    "jit_compile", [None, False, True], ids=["eager", "graph", "xla"]
)
@POOLED
def test_too_many_examples(make, jit_compile):
    metric = make(max_examples=9)

    def step(*batch):
        metric.update_state(*batch)
        return metric.result()

    graph = step if jit_compile is None else tf.function(step, jit_compile=jit_compile)
    batch = tuple(map(tf.constant, labels_and_scores()))
    assert np.isfinite([graph(*batch), graph(*batch)]).all()
    if jit_compile is None:
        metric.update_state(*batch)
    else:
        assert np.isnan(graph(*batch))
    with pytest.raises(ValueError, match="`max_examples` must be at least.*=9"):
        metric.result()
    metric.reset_state()
    assert np.isfinite(graph(*batch))


@POOLED
def test_no_buffer_grows_under_xla(make):
    metric = make()

    @tf.function(jit_compile=True)
    def update(y_true, y_pred):
        metric.update_state(y_true, y_pred)

    with pytest.raises(ValueError, match="`max_examples` must be given.*XLA"):
        update(*map(tf.constant, labels_and_scores()))


@EACH
def test_metrics_of_another_configuration_do_not_merge(make):
    with pytest.raises(
        ValueError, match="`metrics` must have this metric's own config"
    ):
        make().merge_state([metrics.MeanAveragePrecision(7)])
