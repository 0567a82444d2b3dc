"""Metrics of scored labels on two logical devices: the union of what both saw."""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

SOURCE = """
import os
import sys
sys.path.insert(0, os.getcwd())
import numpy as np
import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests import test_metrics_in_fit as single

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
keras.utils.set_random_seed(0)
x, y = single.data(50)
options = {"batch_size": 8, "verbose": 0, "return_dict": True}

def to_floats(logs):
    return {k: float(v) for k, v in logs.items()}

def evaluated(convert, fixed, head_metrics):
    metrics = single.make_metrics(max_examples=30 if fixed else None)
    wanted = {"head_metrics": single.make_metrics()} if head_metrics else {}
    model = single.compiled(convert(single.plain_model()), metrics=metrics, **wanted)
    logs = model.evaluate(x, y, **options)
    again = model.evaluate(x[:9], y[:9], **options)
    history = model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0,
                        validation_data=(x, y), validation_batch_size=8).history
    trained = model.evaluate(x, y, **options)
    validated = {k: history["val_" + k][0] for k in trained}
    y_pred = model.predict(x, verbose=0)
    return {"again": to_floats(again), "trained": to_floats(trained),
            "validated": to_floats(validated),
            "expected": to_floats(single.expected(y, y_pred))}

def two_heads(model):
    return eh.multi_head(model, "hidden", num_heads=2)

result = {"fit": {}}
with strategy.scope():
    result["fit"]["plain open"] = evaluated(lambda model: model, False, False)
    result["fit"]["heads fixed"] = evaluated(two_heads, True, True)

# A loop of one's own, with an example more on one device than on the other, and in
# the last batch none at all on the second.
scores = np.round(np.random.normal(size=(50, 7)), 1).astype("float32")
batches = [(0, 5, 9), (9, 9, 20), (20, 35, 49), (49, 50, 50)]
with strategy.scope():
    metrics = single.make_metrics()

@tf.function(reduce_retracing=True)
def step(y_true, y_pred):
    def replica(labels, values):
        for metric in metrics:
            metric.update_state(labels, values)
    strategy.run(replica, (y_true, y_pred))

def spread(array, start, middle, end):
    parts = [tf.constant(array[start:middle]), tf.constant(array[middle:end])]
    def part(context):
        return parts[context.replica_id_in_sync_group]
    return strategy.experimental_distribute_values_from_function(part)

result["loop"] = []
for _ in range(2):
    for batch in batches:
        step(spread(y, *batch), spread(scores, *batch))
    outside = {metric.name: float(metric.result()) for metric in metrics}
    with strategy.scope():
        inside = {metric.name: float(metric.result()) for metric in metrics}
    graph = {m.name: float(tf.function(lambda m=m: m.result())()) for m in metrics}
    result["loop"] += [outside, inside, graph]
    for metric in metrics:
        metric.reset_state()
result["after reset"] = [float(metric.result()) for metric in metrics]
result["expected"] = to_floats(single.expected(y, scores))

# In the scope, but in no replica.
with strategy.scope():
    for start in range(0, 50, 20):
        for metric in metrics[:2]:
            metric.update_state(y[start:start + 20], scores[start:start + 20])
result["cross"] = [float(metric.result()) for metric in metrics[:2]]

outsider = eh.metrics.GlobalAveragePrecision()
try:
    strategy.run(lambda: outsider._buffer._check_replica())
    result["outsider"] = ""
except ValueError as error:
    result["outsider"] = str(error)
"""


@pytest.fixture(scope="module")
def results(run_on_two_devices):
    return run_on_two_devices(SOURCE)


@pytest.mark.parametrize("case", ["plain open", "heads fixed"])
def test_fit_and_evaluate(results, case):
    result = results["fit"][case]
    for name, value in result["expected"].items():
        assert result["trained"][name] == pytest.approx(value, rel=1e-6), name
        assert 0 < value < 1
    assert result["validated"] == pytest.approx(result["trained"], rel=1e-6)
    assert result["again"]["gap"] != result["trained"]["gap"]
    if case.startswith("heads"):
        assert {"head_0_gap", "head_1_perr"} < set(result["trained"])


def test_a_loop_of_ones_own(results):
    assert len(results["loop"]) == 6
    for values in results["loop"]:
        assert values == pytest.approx(results["expected"], rel=1e-6)


def test_reset(results):
    assert results["after reset"] == [0.0] * 4


def test_updates_outside_of_replicas_count_once(results):
    expected = [results["expected"][name] for name in ("gap", "map")]
    assert results["cross"] == pytest.approx(expected, rel=1e-6)


def test_a_metric_made_outside_of_the_scope_is_refused(results):
    assert "must be made under `strategy.scope()`" in results["outsider"]
