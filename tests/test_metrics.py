"""Metrics of scored labels against loops in NumPy, however the examples arrive."""

import numpy as np
import pytest
import tensorflow as tf

from ensemble_heads import metrics
from ensemble_heads.keras_api import KERAS_3, keras
from tests import numpy_metrics

CLASSES = 11
CAPACITY = 100
# Every metric beside its oracle; `make` takes what those over a pool take as well.
CASES = {
    "gap": (
        lambda **kwargs: metrics.GlobalAveragePrecision(top_k=4, **kwargs),
        lambda *args: numpy_metrics.global_average_precision(*args[:2], 4, *args[2:]),
    ),
    "gap_of_all_classes": (
        lambda **kwargs: metrics.GlobalAveragePrecision(top_k=20, **kwargs),
        lambda *args: numpy_metrics.global_average_precision(*args[:2], 20, *args[2:]),
    ),
    "map": (
        lambda **kwargs: metrics.MeanAveragePrecision(CLASSES, top_k=4, **kwargs),
        lambda *args: numpy_metrics.mean_average_precision(*args[:2], 4, *args[2:]),
    ),
    "map_with_zeros": (
        lambda **kwargs: metrics.MeanAveragePrecision(
            CLASSES, classes_without_positives="zero", **kwargs
        ),
        lambda y, p, weights=None: numpy_metrics.mean_average_precision(
            y, p, 20, weights, empty="zero"
        ),
    ),
    "hit_at_1": (lambda **_: metrics.HitAtOne(), numpy_metrics.hit_at_one),
    "perr": (
        lambda **_: metrics.PrecisionAtEqualRecall(),
        numpy_metrics.precision_at_equal_recall,
    ),
    "perr_of_labelled": (
        lambda **_: metrics.PrecisionAtEqualRecall("skip"),
        lambda y, p, weights=None: numpy_metrics.precision_at_equal_recall(
            y, p, weights, empty="skip"
        ),
    ),
}
BOTH = pytest.mark.parametrize("max_examples", [None, CAPACITY], ids=["open", "fixed"])
POOLED = [name for name in CASES if name.startswith(("gap", "map"))]


def by_name(names=CASES):
    return pytest.mark.parametrize("case", [CASES[n] for n in names], ids=list(names))


def draw(examples=60, ties=True):
    """Labels that go with the scores, with class 3 and every fifth example empty."""
    y_pred = np.random.normal(size=(examples, CLASSES))
    y_true = y_pred + np.random.normal(size=y_pred.shape) > 1.2
    if ties:
        y_pred = np.round(y_pred * 2) / 2
    y_true[:, 3] = False
    y_true[::5] = False
    return y_true, y_pred.astype("float32")


def value_of(metric, y_true, y_pred, weights=None, sizes=None):
    """The result after batches of these sizes, or of one."""
    ends = np.cumsum(sizes or [len(y_true)])
    for start, end in zip([0, *ends], ends):
        weight = None if weights is None else weights[start:end]
        metric.update_state(y_true[start:end], y_pred[start:end], sample_weight=weight)
    assert ends[-1] == len(y_true)
    return float(metric.result())


@BOTH
@pytest.mark.parametrize("ties", [True, False], ids=["ties", "no ties"])
@by_name()
def test_equals_the_loops(case, ties, max_examples):
    make, oracle = case
    for _ in range(2):
        y_true, y_pred = draw(ties=ties)
        value = value_of(make(max_examples=max_examples), y_true, y_pred)
        assert value == pytest.approx(oracle(y_true, y_pred), rel=1e-6)
        assert 0.05 < value < 0.95


@BOTH
@by_name()
def test_batches_and_order_make_no_difference(case, max_examples):
    make, _ = case
    y_true, y_pred = draw()
    whole = value_of(make(max_examples=max_examples), y_true, y_pred)
    order = np.random.permutation(60)
    for sizes in ([1] * 10 + [50], [7, 1, 40, 12]):
        metric = make(max_examples=max_examples)
        assert value_of(metric, y_true[order], y_pred[order], sizes=sizes) == whole


@by_name()
def test_real_weights(case):
    make, oracle = case
    y_true, y_pred = draw()
    weights = np.random.uniform(0.1, 3.0, 60)
    value = value_of(make(), y_true, y_pred, weights, [25, 35])
    assert value == pytest.approx(oracle(y_true, y_pred, weights), rel=1e-6)
    plain = value_of(make(), y_true, y_pred)
    assert abs(value - plain) > 1e-4
    same = value_of(make(), y_true, y_pred, np.full(60, 0.3))
    assert same == pytest.approx(plain, rel=1e-6)


@BOTH
@by_name()
def test_a_mask_leaves_out_whatever_the_example_holds(case, max_examples):
    make, _ = case
    y_true, y_pred = draw()
    kept = np.random.uniform(size=60) < 0.6
    expected = value_of(make(), y_true[kept], y_pred[kept])
    y_true, y_pred = y_true.astype("float32"), y_pred.copy()
    y_true[~kept], y_pred[~kept] = 7.0, np.nan
    for mask in (kept.astype("float32"), kept, kept[:, None].astype("int32")):
        metric = make(max_examples=max_examples)
        assert value_of(metric, y_true, y_pred, mask, [30, 30]) == expected


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
@by_name()
def test_dtypes(case, dtype):
    make, oracle = case
    y_true, y_pred = draw(ties=False)
    scores = tf.cast(y_pred, dtype)
    expected = oracle(y_true, tf.cast(scores, tf.float32).numpy())
    for labels in (tf.bool, tf.int32, tf.float32, dtype):
        value = value_of(make(), tf.cast(y_true, labels), scores)
        assert value == pytest.approx(expected, rel=1e-6)


@by_name()
def test_signs_infinities_and_zeros_rank_as_they_compare(case):
    make, oracle = case
    values = np.array([-np.inf, -2.0, -1e-30, -0.0, 0.0, 1e-30, 3.0, np.inf])
    y_true, _ = draw()
    y_pred = np.random.choice(values, size=y_true.shape).astype("float32")
    expected = oracle(y_true, y_pred)
    assert value_of(make(), y_true, y_pred) == pytest.approx(expected, rel=1e-6)


def test_a_perfect_ranking_is_short_of_one_by_what_top_k_cannot_hold():
    """All labels count, also those beyond the kept predictions."""
    y_true = np.zeros((4, CLASSES), bool)
    y_true[:, :6] = True
    y_pred = np.where(y_true, 0.9, 0.1)
    for name, expected in {
        "gap": 4 / 6,
        "gap_of_all_classes": 1.0,
        "perr": 1.0,
    }.items():
        assert value_of(CASES[name][0](), y_true, y_pred) == pytest.approx(expected)


def test_constant_scores_give_the_share_of_labels():
    y_true, _ = draw()
    y_pred = np.full(y_true.shape, 0.5, "float32")
    value = value_of(CASES["gap_of_all_classes"][0](), y_true, y_pred)
    assert value == pytest.approx(y_true.mean(), rel=1e-6)


@by_name()
def test_nothing_is_zero(case):
    metric = case[0]()
    assert float(metric.result()) == 0.0
    nothing = np.zeros((3, CLASSES), "float32")
    assert value_of(metric, nothing, np.random.normal(size=nothing.shape)) == 0.0


@BOTH
@by_name()
def test_reset_forgets_all(case, max_examples):
    make, _ = case
    metric = make(max_examples=max_examples)
    first, second = draw(90), draw(20)
    value_of(metric, *first)
    metric.reset_state()
    assert float(metric.result()) == 0.0
    # Fewer than before: what the buffer still holds beyond them must not count.
    assert value_of(metric, *second) == value_of(make(), *second)


@by_name()
def test_config_round_trip(case):
    metric = case[0](max_examples=50)
    saved = keras.saving.serialize_keras_object(metric)
    again = keras.saving.deserialize_keras_object(saved)
    assert type(again) is type(metric) and again.get_config() == metric.get_config()
    data = draw()[0][:30], draw()[1][:30]
    assert value_of(again, *data) == value_of(metric, *data)


@BOTH
@by_name()
def test_states_merge(case, max_examples):
    make, _ = case
    y_true, y_pred = draw()
    parts = [make(max_examples=max_examples) for _ in range(3)]
    for part, rows in zip(parts, (slice(0, 5), slice(5, 33), slice(33, 60))):
        value_of(part, y_true[rows], y_pred[rows])
    parts[0].merge_state(parts[1:])
    assert float(parts[0].result()) == value_of(make(), y_true, y_pred)


# ---- Graphs


def stepping(metric, jit_compile):
    """A step as Keras writes it: updates and asks in one graph."""

    @tf.function(reduce_retracing=True, jit_compile=jit_compile)
    def step(y_true, y_pred):
        metric.update_state(y_true, y_pred)
        return metric.result()

    return step


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@by_name()
def test_in_graphs_and_under_xla(case, jit_compile):
    make, oracle = case
    metric = make(max_examples=CAPACITY)
    step = stepping(metric, jit_compile)
    y_true, y_pred = draw()
    for start in range(0, 60, 20):
        rows = slice(start, start + 20)
        step(tf.constant(y_true[rows]), tf.constant(y_pred[rows]))
    expected = oracle(y_true, y_pred)
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)
    asking = tf.function(lambda: metric.result(), jit_compile=jit_compile)
    assert float(asking()) == pytest.approx(expected, rel=1e-6)


@by_name(POOLED)
def test_a_step_sorts_only_when_the_examples_have_grown(case):
    make, oracle = case
    metric = make(refresh=0.5)
    step = stepping(metric, False)
    y_true, y_pred = draw()
    seen = [
        float(step(tf.constant(y_true[i : i + 10]), tf.constant(y_pred[i : i + 10])))
        for i in range(0, 60, 10)
    ]
    exact = [oracle(y_true[:end], y_pred[:end]) for end in range(10, 70, 10)]
    # After 10, 20 and 40 examples: 30 are not more than 1.5 times 20.
    expected = [exact[i] for i in (0, 1, 1, 3, 3, 3)]
    assert seen == pytest.approx(expected, rel=1e-6)
    assert float(metric.result()) == pytest.approx(exact[-1], rel=1e-6)
    metric.reset_state()
    again = float(step(tf.constant(y_true[:10]), tf.constant(y_pred[:10])))
    assert again == pytest.approx(exact[0], rel=1e-6)


@by_name(POOLED)
def test_refresh_zero_sorts_in_every_step(case):
    make, oracle = case
    step = stepping(make(refresh=0), False)
    y_true, y_pred = draw()
    for i in range(0, 60, 10):
        value = step(tf.constant(y_true[i : i + 10]), tf.constant(y_pred[i : i + 10]))
        expected = oracle(y_true[: i + 10], y_pred[: i + 10])
        assert float(value) == pytest.approx(expected, rel=1e-6)


@by_name(POOLED)
def test_unknown_batch_and_a_buffer_that_grows(case):
    make, _ = case
    metric = make()
    spec = tf.TensorSpec((None, CLASSES))

    @tf.function(input_signature=(spec, spec))
    def update(y_true, y_pred):
        metric.update_state(y_true, y_pred)

    y_true, y_pred = draw(5000)
    for start, end in ((0, 1), (1, 1), (1, 1300), (1300, 1301), (1301, 5000)):
        update(y_true[start:end].astype("float32"), y_pred[start:end])
    assert float(metric.result()) == value_of(make(), y_true, y_pred)


@pytest.mark.parametrize(
    "name, entry", [("gap_of_all_classes", 5), ("map_with_zeros", 9)]
)
def test_state_is_as_large_as_documented(name, entry):
    metric = CASES[name][0](max_examples=1000)
    assert metric.state_bytes == 1000 * (entry * 20 + 4)
    growing = CASES[name][0]()
    value_of(growing, *draw(5000), sizes=[500] * 10)
    assert growing.state_bytes <= 1.5 * 5000 * (entry * 20 + 4)


def test_the_state_is_no_weight_of_a_checkpoint():
    metric = CASES["map"][0]()
    value_of(metric, *draw(5000))
    assert sum(np.prod(v.shape) for v in metric.variables) < 10


def test_callbacks_of_keras_3_know_the_direction():
    if KERAS_3:
        assert all(make()._direction == "up" for make, _ in CASES.values())
