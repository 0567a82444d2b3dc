"""Two processes under MultiWorkerMirroredStrategy train as one device does."""

import json

import numpy as np
import pytest

from tests import two_device_training, worker_processes

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

SOURCE = """
import json, sys
import ensemble_heads as eh
from ensemble_heads import strategies

settings = json.loads(sys.argv[1])
strategy = eh.strategy("multi_worker", timeout=settings["timeout"])
assert eh.strategy("multi_worker") is strategy and strategy.num_replicas_in_sync == 2

import numpy as np
import tensorflow as tf
from ensemble_heads.keras_api import keras
from tests import small_models, test_metrics_in_fit as scored

keras.utils.set_random_seed(0)  # the same data on both
x, y = small_models.classification_data(32)
result = {"task": strategies.task(strategy)}

def batches(*arrays, size=16):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(size)

def dense():
    return small_models.dense_model(regularizer=keras.regularizers.L2(0.01))

def train(make, start=None):
    keras.utils.set_random_seed(0)
    model = make()
    if start is not None:
        model.set_weights(start)
    start = model.get_weights()
    optimizer = keras.optimizers.SGD(0.3, momentum=0.9, global_clipnorm=0.5)
    model.compile(optimizer, "sparse_categorical_crossentropy",
                  ensemble_loss=eh.losses.CoDistillation(1.0), metrics=["accuracy"],
                  head_metrics=["accuracy"])
    history = model.fit(batches(x, y).repeat(), steps_per_epoch=2, epochs=3, verbose=0)
    # Batches of 10, 10 and 7, of which neither worker sees the same number.
    logs = model.evaluate(batches(x[:27], y[:27], size=10), verbose=0, return_dict=True)
    history.history |= {"evaluated " + name: [value] for name, value in logs.items()}
    return start, model.get_weights(), history.history

def compare(make):
    start, one, alone = train(make)
    with strategy.scope():
        own, two, together = train(make, start)
    logs = [{k: [float(v) for v in h[k]] for k in h} for h in (alone, together)]
    farthest = lambda many: max(float(np.abs(a - b).max()) for a, b in many)
    return {"moved": farthest(zip(start, one)), "apart": farthest(zip(one, two)),
            "logs": logs, "weights": [w.tolist() for w in two]}

result["dense"] = compare(dense)
result["synchronized"] = compare(small_models.normed_model)
result["per replica"] = compare(lambda: small_models.normed_model(False))

keras.utils.set_random_seed(0)
labels, targets = scored.data(50)
with strategy.scope():
    model = scored.compiled(scored.plain_model(), metrics=scored.make_metrics())
# One replica sees more than the other, and of the last batch one sees none.
data = batches(labels, targets, size=7)
result["gap"] = {k: float(v) for k, v in
                 model.evaluate(data, verbose=0, return_dict=True).items()}
values = scored.expected(targets, model(labels, training=False).numpy())
result["expected"] = {k: float(v) for k, v in values.items()}
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def results():
    settings = json.dumps({"timeout": worker_processes.TIMEOUT})
    with worker_processes.started([SOURCE, SOURCE], settings) as processes:
        ended = worker_processes.ended(processes)
    for code, _, errors in ended:
        assert code == 0, errors[-4000:]
    return [json.loads(printed.splitlines()[-1]) for _, printed, _ in ended]


def test_each_worker_knows_its_place(results):
    assert [result["task"] for result in results] == [[0, 2], [1, 2]]


@pytest.mark.parametrize("model", ["dense", "synchronized"])
def test_two_workers_equal_one_device(results, model):
    for result in results:
        two_device_training.assert_equal(result[model], 5e-6)


def test_both_workers_hold_the_same_weights(results):
    for name in ("dense", "synchronized"):  # others move statistics of their own
        one, other = (result[name]["weights"] for result in results)
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_batch_norm_is_per_replica_unless_synchronized(results):
    for result in results:
        assert result["per replica"]["apart"] > 1e-3


def test_metrics_of_scored_labels_are_exact(results):
    """GAP and its kin hold entries of all workers, and count each example once."""
    for result in results:
        for name, value in result["expected"].items():
            assert result["gap"][name] == pytest.approx(value, rel=1e-6), name
            assert 0 < value < 1
