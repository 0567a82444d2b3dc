"""VOC 2007's mean average precision against loops in NumPy, and as a Keras metric."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

from ensemble_heads import metrics
from ensemble_heads.keras_api import keras
from tests import numpy_detection as oracle
from tests.test_detection import boxes

CLASSES = 4


def scenes(images=12, objects=5, detections=9, seed=0, digits=1, without=3):
    """Objects and detections as dicts of arrays, with ties, padding and difficult ones.

    Args:
        digits: int, scores are rounded to so many.
        without: a class that no object has.
    """
    rng = np.random.default_rng(seed)
    kinds = rng.integers(-1, CLASSES, (images, objects))
    kinds[kinds == without] = 0
    there = boxes(images, objects, seed=seed, least=0.3)
    y_true = {
        "boxes": there,
        "classes": kinds,
        "difficult": rng.random((images, objects)) < 0.3,
    }
    source = rng.integers(0, objects, (images, detections))
    near = np.take_along_axis(there, source[..., None], axis=1)
    near = near + rng.normal(0, 0.05, near.shape)
    said = np.take_along_axis(kinds, source, axis=1)
    wrong = rng.random(said.shape) < 0.2
    said = np.where(wrong, rng.integers(-1, CLASSES, said.shape), said)
    y_pred = {
        "boxes": near.astype("float32"),
        "classes": said,
        "scores": rng.random(said.shape).round(digits).astype("float32"),
    }
    return y_true, y_pred


def lists(y_true, y_pred):
    """The same as lists of the real ones per image, for the oracle."""
    objects, found = (
        [
            [entry for entry in zip(*image, strict=True) if entry[1] >= 0]
            for image in zip(side["boxes"], side["classes"], side[last], strict=True)
        ]
        for side, last in ((y_true, "difficult"), (y_pred, "scores"))
    )
    return objects, found


def expected(y_true, y_pred, **options):
    """List of each class' average precision, or None."""
    entries = lists(y_true, y_pred)
    return [
        oracle.voc_class_precision(*entries, number, **options)
        for number in range(CLASSES)
    ]


def part(side, rows):
    return {name: values[rows] for name, values in side.items()}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("digits", [1, 6])
@pytest.mark.parametrize("ignore", [True, False])
def test_is_the_definition(seed, digits, ignore):
    batch = scenes(seed=seed, digits=digits)
    metric = metrics.VOCMeanAveragePrecision(CLASSES, 9, ignore_difficult=ignore)
    for rows in (slice(0, 5), slice(5, 6), slice(6, None)):
        metric.update_state(*(part(side, rows) for side in batch))
    by_class = expected(*batch, ignore=ignore)
    assert by_class[3] is None and 0.05 < by_class[0] < 0.95
    known = [value for value in by_class if value is not None]
    assert float(metric.result()) == pytest.approx(np.mean(known), abs=1e-6)
    wanted = [np.nan if value is None else value for value in by_class]
    npt.assert_allclose(metric.class_results(), wanted, atol=1e-9)


def test_difficult_objects_matter_here():
    batch = scenes(seed=1)
    assert expected(*batch) != expected(*batch, ignore=False)


@pytest.mark.parametrize("threshold", [0.3, 0.8])
def test_other_thresholds(threshold):
    batch = scenes(seed=2)
    metric = metrics.VOCMeanAveragePrecision(CLASSES, 9, iou_threshold=threshold)
    metric.update_state(*batch)
    known = [v for v in expected(*batch, threshold=threshold) if v is not None]
    assert float(metric.result()) == pytest.approx(np.mean(known), abs=1e-6)


def test_classes_without_objects_can_count_as_zero():
    batch = scenes()
    metric = metrics.VOCMeanAveragePrecision(
        CLASSES, 9, classes_without_positives="zero"
    )
    metric.update_state(*batch)
    total = sum(value or 0 for value in expected(*batch))
    assert float(metric.result()) == pytest.approx(total / CLASSES, abs=1e-6)


def one_image(objects, found, **options):
    """The metric of an image of one class; `found` are pairs of box and score."""
    metric = metrics.VOCMeanAveragePrecision(1, max(len(found), 1), **options)
    there = np.reshape(objects, (1, -1, 4)).astype("float32")
    given = np.reshape([box for box, _ in found], (1, -1, 4)).astype("float32")
    metric.update_state(
        {"boxes": there, "classes": np.zeros(there.shape[:2], int)},
        {
            "boxes": given,
            "classes": np.zeros(given.shape[:2], int),
            "scores": np.float32([[score for _, score in found]]),
        },
    )
    return float(metric.result())


A, B = [0.1, 0.1, 0.5, 0.5], [0.5, 0.5, 0.9, 0.9]


@pytest.mark.parametrize(
    "objects, found, value",
    [
        ([A, B], [(A, 0.9), (B, 0.8)], 1.0),
        ([A, B], [(A, 0.9)], 6 / 11),  # recall 0.5 is reached six times
        ([A], [(A, 0.9), (A, 0.8)], 1.0),  # the second is a miss after full recall
        ([A, B], [(A, 0.9), (A, 0.8), (B, 0.7)], (6 + 5 * 2 / 3) / 11),
        ([A], [(B, 0.9), (A, 0.9)], 0.5),  # one threshold for both
        ([A], [(A, 0.9), (B, 0.9)], 0.5),  # in any order
        ([A], [(B, 0.9)], 0.0),
        ([A], [], 0.0),
        ([], [(A, 0.9)], 0.0),
        ([[0.0, 0.0, 1.0, 1.0]], [([0.0, 0.0, 1.0, 0.5], 0.9)], 1.0),  # IoU is 0.5
    ],
)
def test_by_hand(objects, found, value):
    assert one_image(objects, found) == pytest.approx(value, abs=1e-6)


def test_exact_recalls_are_reached():
    """3 of 10 objects are a recall of 0.3, which floats would miss."""
    grid = [[i / 10, 0, (i + 1) / 10, 1] for i in range(10)]
    for count in range(1, 10):
        found = [(box, 1 - i / 20) for i, box in enumerate(grid[:count])]
        assert one_image(grid, found) == pytest.approx((count + 1) / 11, abs=1e-6)


# ---- As a Keras metric


def updated(metric, *batches):
    for batch in batches:
        metric.update_state(*batch)
    return metric


def test_in_a_graph_of_unknown_batch_and_reset():
    batch = scenes()
    metric = metrics.VOCMeanAveragePrecision(CLASSES, 12)
    specs = tf.nest.map_structure(
        lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype), batch
    )

    @tf.function(input_signature=specs)
    def step(y_true, y_pred):
        metric.update_state(y_true, y_pred)

    for rows in (slice(0, 1), slice(1, None)):
        step(*tf.nest.map_structure(lambda x, r=rows: tf.constant(x[r]), batch))
    again = updated(metrics.VOCMeanAveragePrecision(CLASSES, 9), batch)
    assert float(metric.result()) == float(again.result()) > 0
    metric.reset_state()
    assert float(metric.result()) == 0
    step(*tf.nest.map_structure(tf.constant, batch))
    assert float(metric.result()) == float(again.result())


def test_under_xla():
    batch = tf.nest.map_structure(tf.constant, scenes())
    metric = metrics.VOCMeanAveragePrecision(CLASSES, 9, max_images=30)

    @tf.function(jit_compile=True)
    def step(y_true, y_pred):
        metric.update_state(y_true, y_pred)
        return metric.result()

    again = updated(metrics.VOCMeanAveragePrecision(CLASSES, 9), batch)
    assert float(step(*batch)) == pytest.approx(float(again.result()), rel=1e-6)
    step(*batch)
    step(*batch)
    with pytest.raises(ValueError, match="`max_images` must be at least the number"):
        metric.result()


def test_config_round_trip_and_merging():
    metric = metrics.VOCMeanAveragePrecision(
        CLASSES, 9, 0.4, False, "zero", 40, name="found"
    )
    saved = keras.saving.serialize_keras_object(metric)
    again = keras.saving.deserialize_keras_object(saved)
    assert again.get_config() == metric.get_config()
    assert again.name == "found" and again.max_images == 40
    first, second = scenes(seed=0), scenes(seed=1)
    both = float(updated(metric, first, second).result())
    one = metrics.VOCMeanAveragePrecision.from_config(metric.get_config())
    updated(one, first).merge_state([updated(again, second)])
    assert float(one.result()) == both


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_scores_are_ranked_as_they_are(dtype):
    y_true, y_pred = scenes(digits=6)
    low = tf.cast(y_pred["scores"], dtype)
    one = updated(
        metrics.VOCMeanAveragePrecision(CLASSES, 9),
        (y_true, {**y_pred, "scores": low}),
    )
    wide = {**y_pred, "scores": tf.cast(low, "float32")}
    other = updated(metrics.VOCMeanAveragePrecision(CLASSES, 9), (y_true, wide))
    assert one.result().dtype == tf.float32
    assert float(one.result()) == float(other.result())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_classes": 0}, "`num_classes` must be an int of at least 1"),
        ({"max_detections": 2.5}, "`max_detections` must be an int of at least 1"),
        ({"max_images": 0}, "`max_images` must be an int of at least 1"),
        ({"iou_threshold": 0}, r"`iou_threshold` must be in \(0, 1\]"),
        ({"classes_without_positives": "no"}, "`classes_without_positives` must be"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        metrics.VOCMeanAveragePrecision(**{"num_classes": 3, **options})


@pytest.mark.parametrize(
    "side, change, message",
    [
        (0, {"boxes": np.zeros((12, 5, 3))}, "`y_true` must hold boxes"),
        (
            0,
            {"classes": np.zeros((12, 4), int)},
            "`y_true` must hold boxes .* all else",
        ),
        (1, {"scores": np.zeros(12)}, "`y_pred` must hold boxes .* all else"),
        (1, {"names": 1}, "`y_pred` must be a dict of .*classes.*scores"),
        (0, {"scores": 1}, "`y_true` must be a dict of .*difficult"),
    ],
)
def test_input_of_other_shapes_is_refused(side, change, message):
    batch = list(scenes())
    batch[side] = {**batch[side], **change}
    with pytest.raises(ValueError, match=message):
        metrics.VOCMeanAveragePrecision(CLASSES, 9).update_state(*batch)


def test_more_detections_and_weights_are_refused():
    metric = metrics.VOCMeanAveragePrecision(CLASSES, 8)
    with pytest.raises(ValueError, match="`max_detections` must be at least"):
        metric.update_state(*scenes())
    with pytest.raises(ValueError, match="`sample_weight` must be None"):
        metric.update_state(*scenes(), sample_weight=np.ones(12))
    with pytest.raises(ValueError, match="`y_pred` must be a dict"):
        metric.update_state(scenes()[0], np.zeros((12, 9, 4)))


@pytest.mark.parametrize(
    "side, name, value, message",
    [
        (1, "scores", np.nan, "scores must not be NaN"),
        (1, "classes", CLASSES, "classes must be from 0 to"),
        (0, "classes", -2, "classes must be from 0 to"),
        (0, "boxes", np.inf, "boxes must be finite"),
    ],
)
def test_bad_values_are_told_with_the_result(side, name, value, message):
    batch = scenes()
    batch[1]["classes"][0, 0] = 1
    batch[side][name][0, 0] = value
    metric = updated(metrics.VOCMeanAveragePrecision(CLASSES, 9), batch)
    with pytest.raises(ValueError, match=message):
        metric.result()
    metric.reset_state()
    assert float(updated(metric, scenes()).result()) > 0


TWO_REPLICAS = """
import os
import sys
sys.path.insert(0, os.getcwd())
import ensemble_heads as eh
from tests import test_voc_mean_average_precision as single

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
batch = tf.nest.map_structure(tf.constant, single.scenes())
with strategy.scope():
    metric = eh.metrics.VOCMeanAveragePrecision(single.CLASSES, 9)

def part(context):
    one = context.replica_id_in_sync_group
    return tf.nest.map_structure(lambda x: x[:5] if one == 0 else x[5:], batch)

@tf.function
def step(y_true, y_pred):
    strategy.run(metric.update_state, (y_true, y_pred))

step(*strategy.experimental_distribute_values_from_function(part))
result = float(metric.result())
"""


def test_on_two_devices(run_on_two_devices):
    whole = updated(metrics.VOCMeanAveragePrecision(CLASSES, 9), scenes())
    assert run_on_two_devices(TWO_REPLICAS) == pytest.approx(float(whole.result()))
