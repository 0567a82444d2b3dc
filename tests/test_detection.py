"""Boxes, targets, the box loss and decoding, against NumPy and by hand."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads import base_losses, predictions
from ensemble_heads.keras_api import keras
from tests import numpy_detection as oracle

detection = eh.detection


def boxes(*shape, seed=0, least=0.05):
    """Boxes inside of the image, float32 `[*shape, 4]`."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(least, 0.6, (*shape, 2))
    start = rng.uniform(0, 1 - sides)
    return np.concatenate([start, start + sides], axis=-1).astype("float32")


# ---- Boxes


def test_overlap_is_the_oracle_s():
    first, second = boxes(2, 6), boxes(2, 5, seed=1)
    got = detection.intersection_over_union(first, second).numpy()
    assert got.shape == (2, 6, 5)
    expected = [
        [[oracle.overlap(a, b) for b in second[i]] for a in first[i]] for i in (0, 1)
    ]
    npt.assert_allclose(got, expected, atol=1e-6)
    assert 0.05 < (got == 0).mean() < 0.95


def test_boxes_that_touch_or_are_none_overlap_nothing():
    some = [[0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 0.5], [0.0] * 4]
    got = detection.intersection_over_union(some, some).numpy()
    npt.assert_array_equal(got, np.diag([1.0, 1.0, 0.0]))


def test_offsets_are_fast_rcnn_s():
    some, proposals = boxes(7), boxes(7, seed=1)
    got = detection.encode_boxes(some, proposals)
    expected = [oracle.offsets(*pair) for pair in zip(some, proposals, strict=True)]
    npt.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_decoding_inverts_encoding():
    some, proposals = boxes(3, 7), boxes(3, 7, seed=1)
    offsets = detection.encode_boxes(some, proposals)
    npt.assert_allclose(detection.decode_boxes(offsets, proposals), some, atol=1e-5)


def test_decoded_boxes_are_finite_and_inside():
    proposals = boxes(5)
    for size in (-1e4, 1e4):
        got = detection.decode_boxes(np.full((5, 4), size, "float32"), proposals)
        assert np.isfinite(got).all() and 0 <= np.min(got) <= np.max(got) <= 1


@pytest.mark.parametrize(
    "call",
    [
        lambda x: detection.intersection_over_union(x, boxes(3)),
        lambda x: detection.encode_boxes(boxes(3), x),
        lambda x: detection.decode_boxes(x, boxes(3)),
    ],
)
@pytest.mark.parametrize("shape", [(3, 5), (4,)])
def test_boxes_of_other_shapes_are_refused(call, shape):
    with pytest.raises(ValueError, match=r"must hold boxes \(y1, x1, y2, x2\)"):
        call(np.zeros(shape, "float32"))


# ---- Targets


def scene():
    """Proposals `[2, 9, 4]`, boxes `[2, 3, 4]` and classes `[2, 3]`, padded."""
    found, rng = boxes(2, 3, least=0.3), np.random.default_rng(4)
    near = np.repeat(found, 2, axis=1) + rng.normal(0, 0.04, (2, 6, 4))
    proposals = np.concatenate([near, boxes(2, 2, seed=9), np.zeros((2, 1, 4))], 1)
    classes = np.array([[2, 0, 1], [1, 2, -1]])
    found[1, 2] = 0
    return proposals.astype("float32"), found, classes


def test_targets_are_those_of_the_object_that_is_overlapped_most():
    proposals, objects, classes = scene()
    got = detection.assign_targets(proposals, objects, classes)
    expected = np.zeros((2, 9, 5))
    for i, j in np.ndindex(2, 9):
        overlaps = [oracle.overlap(proposals[i, j], box) for box in objects[i]]
        best = int(np.argmax(overlaps))
        if not proposals[i, j].any():
            expected[i, j, 0] = -1
        elif overlaps[best] >= 0.5:
            expected[i, j, 0] = classes[i, best] + 1
            expected[i, j, 1:] = oracle.offsets(objects[i, best], proposals[i, j])
    assert {-1, 0, 1, 2, 3} == set(expected[..., 0].ravel())
    npt.assert_array_equal(got["classes"], expected[..., 0])
    assert got["classes"].dtype == tf.int32
    npt.assert_allclose(got["boxes"], expected, atol=1e-3)


def test_the_threshold_is_inclusive():
    proposals, objects = [[[0.0, 0.0, 1.0, 0.5]]], [[[0.0, 0.0, 1.0, 1.0]]]
    for threshold, label in ((0.5, 4), (0.51, 0)):
        got = detection.assign_targets(proposals, objects, [[3]], threshold)
        assert got["classes"].numpy().item() == label


def test_without_any_object_all_is_background():
    proposals, objects, classes = scene()
    got = detection.assign_targets(proposals, objects[:, :0], classes[:, :0])
    real = np.any(proposals, axis=-1)
    npt.assert_array_equal(got["classes"], np.where(real, 0, -1))
    npt.assert_array_equal(got["boxes"][..., 1:], np.zeros((*real.shape, 4)))


@pytest.mark.parametrize("threshold", [0, 1.5, float("nan")])
def test_bad_thresholds_are_refused(threshold):
    with pytest.raises(ValueError, match=r"`iou_threshold` must be in \(0, 1\]"):
        detection.assign_targets(*scene(), iou_threshold=threshold)


def test_classes_that_do_not_go_with_the_boxes_are_refused():
    proposals, objects, classes = scene()
    for wrong in ([2, 0, 1], np.array(classes)[:, 1:]):
        with pytest.raises(ValueError, match="`classes` must hold one number per box"):
            detection.assign_targets(proposals, objects, wrong)
    expected = detection.assign_targets(proposals, objects, classes)
    for unknown in ([None, None], None):
        assign = tf.function(
            lambda classes: detection.assign_targets(proposals, objects, classes),
            input_signature=[tf.TensorSpec(unknown, tf.int32)],
        )
        npt.assert_allclose(assign(classes)["boxes"], expected["boxes"], atol=1e-6)
        with pytest.raises(tf.errors.InvalidArgumentError, match="one number per box"):
            assign(np.array(classes, "int32")[:, 1:])


def test_boxes_of_negative_classes_are_padding():
    proposals, objects, classes = scene()
    classes = np.array(classes)
    classes[:, 0] = -1
    found = detection.assign_targets(proposals, objects, classes)
    objects = np.array(objects)
    objects[:, 0] = 0
    expected = detection.assign_targets(proposals, objects, classes)
    for name in ("classes", "boxes"):
        npt.assert_array_equal(found[name], expected[name])


def test_boxes_of_two_widths_are_taken():
    proposals, objects, classes = scene()
    narrow, wide = (tf.cast(proposals, dtype) for dtype in ("float32", "float64"))
    for other in (narrow, wide):
        found = detection.assign_targets(
            wide if other is narrow else narrow, tf.cast(objects, other.dtype), classes
        )
        expected = detection.assign_targets(wide, tf.cast(objects, wide.dtype), classes)
        npt.assert_array_equal(found["classes"], expected["classes"])
        npt.assert_allclose(found["boxes"], expected["boxes"], atol=1e-5)
    assert detection.decode_boxes(tf.zeros_like(narrow), wide).dtype == tf.float64


# ---- The loss of boxes


CLASSES = 3


def regression(seed=0):
    """Targets `[2, 6, 5]` with background and padding, and offsets `[2, 6, 12]`."""
    rng = np.random.default_rng(seed)
    numbers = np.array([[0, 1, 2, 3, -1, -1], [3, 0, 1, 1, 2, -1]])
    target = np.concatenate([numbers[..., None], rng.normal(0, 2, (2, 6, 4))], -1)
    return target.astype("float32"), rng.normal(0, 2, (2, 6, 4 * CLASSES))


def smooth_l1(target, offsets):
    """(losses `[batch, proposals]`, their gradient) in float64."""
    losses, gradient = np.zeros(target.shape[:2]), np.zeros(offsets.shape)
    for place in np.ndindex(*target.shape[:2]):
        number = int(target[place][0])
        if number > 0:
            own = slice(4 * (number - 1), 4 * number)
            off = offsets[place][own] - target[place][1:]
            near = np.abs(off) < 1
            losses[place] = np.where(near, off**2 / 2, np.abs(off) - 0.5).sum()
            gradient[place][own] = np.where(near, off, np.sign(off))
    return losses, gradient


def test_box_loss_and_gradient_are_the_oracle_s():
    target, offsets = regression()
    losses, gradient = smooth_l1(target, offsets)
    prediction = tf.Variable(offsets)  # float64
    with tf.GradientTape() as tape:
        got = detection.BoxRegression().call(target, prediction)
        total = tf.reduce_sum(got)
    npt.assert_allclose(got, losses, rtol=1e-6)
    npt.assert_allclose(tape.gradient(total, prediction), gradient, atol=1e-6)
    assert ((np.abs(gradient) == 1).any()) and (0 < np.abs(gradient)).any()


def test_means_count_the_background_and_no_padding():
    target, offsets = regression()
    losses, _ = smooth_l1(target, offsets)
    expected = losses.sum() / (target[..., 0] >= 0).sum()
    value = detection.BoxRegression()(target, offsets.astype("float32"))
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_the_base_loss_counts_the_same_positions():
    target, offsets = regression()
    loss = detection.BoxRegression()
    base = base_losses.make(loss)
    both = predictions.EnsemblePrediction(None, predictions.Prediction(offsets))
    npt.assert_array_equal(base.counted(target, both), target[..., 0] >= 0)
    losses, _ = smooth_l1(target, offsets)
    npt.assert_allclose(base(target, both.ensemble), losses, rtol=1e-5)


def test_other_losses_count_every_position():
    prediction = predictions.Prediction(np.zeros((2, 3)))
    assert base_losses.make("mae").mask(np.zeros((2, 3)), prediction) is None


@pytest.mark.parametrize(
    "target, offsets", [((2, 6, 4), (2, 6, 12)), ((2, 6, 5), (2, 6, 10))]
)
def test_targets_and_offsets_of_other_shapes_are_refused(target, offsets):
    with pytest.raises(ValueError, match="`y_true` must hold a class and four offsets"):
        detection.BoxRegression()(np.zeros(target), np.zeros(offsets))


# ---- Decoding


def outputs(scores, offsets=None):
    """A detector's outputs for probabilities of the classes `[batch, n, classes]`."""
    scores = np.asarray(scores, "float32")
    background = 1 - scores.sum(-1, keepdims=True)
    if offsets is None:
        offsets = np.zeros((*scores.shape[:2], 4 * scores.shape[2]), "float32")
    return {"classes": np.concatenate([background, scores], -1), "boxes": offsets}


def test_detections_are_decoded_and_thinned_out_by_class():
    one, other = [0.1, 0.1, 0.5, 0.5], [0.6, 0.5, 0.9, 0.9]
    proposals = np.array([[one, [0.1, 0.12, 0.5, 0.5], other, [0.0] * 4]], "float32")
    scores = [[[0.3, 0.2], [0.6, 0.1], [0.05, 0.9], [0.5, 0.5]]]
    offsets = np.zeros((1, 4, 8), "float32")
    wanted = np.array([0.55, 0.5, 0.95, 0.8], "float32")
    offsets[0, 2, 4:] = detection.encode_boxes([wanted], proposals[0, 2:3])[0]
    found = detection.detect(outputs(scores, offsets), proposals, 6)
    npt.assert_allclose(found["scores"], [[0.9, 0.6, 0.2, 0.05, 0, 0]], atol=1e-6)
    npt.assert_array_equal(found["classes"], [[1, 0, 1, 0, -1, -1]])
    expected = [wanted, proposals[0, 1], proposals[0, 0], proposals[0, 2]]
    npt.assert_allclose(found["boxes"][0, :4], expected, atol=1e-5)
    plain = detection.detect(
        outputs(scores, offsets), proposals, 6, regress_boxes=False
    )
    npt.assert_allclose(plain["boxes"][0, 0], other, atol=1e-6)


def test_thresholds_and_the_number_of_detections():
    proposals = np.array([[[0.1, 0.1, 0.5, 0.5], [0.1, 0.12, 0.5, 0.5]]], "float32")
    said = outputs([[[0.3], [0.6]]])

    def scores(**options):
        found = detection.detect(said, proposals, **{"max_detections": 3, **options})
        return found["scores"].numpy().astype("float64").round(2).tolist()

    assert scores() == [[0.6, 0, 0]]
    assert scores(iou_threshold=1.0) == [[0.6, 0.3, 0]]
    assert scores(iou_threshold=1.0, score_threshold=0.4) == [[0.6, 0, 0]]
    assert scores(iou_threshold=1.0, max_detections=1) == [[0.6]]


def test_detections_in_a_graph_of_unknown_sizes():
    rng = np.random.default_rng(0)
    proposals = boxes(3, 9)
    said = outputs(rng.dirichlet([1, 1, 1], (3, 9))[..., :2])
    specs = tf.nest.map_structure(
        lambda x: tf.TensorSpec((None, None, x.shape[-1])), (said, proposals)
    )
    graph = tf.function(lambda *batch: detection.detect(*batch), input_signature=specs)
    got = graph(*tf.nest.map_structure(tf.constant, (said, proposals)))
    for name, value in detection.detect(said, proposals).items():
        npt.assert_allclose(got[name], value, atol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"max_detections": 0}, "`max_detections` must be an integer of at least 1"),
        ({"iou_threshold": 1.5}, r"`iou_threshold` must be in \[0, 1\]"),
        ({"score_threshold": -1}, r"`score_threshold` must be in \[0, 1\]"),
        ({"outputs": {"classes": 1}}, "`outputs` must be a dict of `classes` and"),
        ({"outputs": np.zeros(3)}, "`outputs` must be a dict of `classes` and"),
        ({"proposals": boxes(1, 3)}, "`outputs` must hold classes"),
        (
            {"outputs": {**outputs([[[0.3], [0.6]]]), "boxes": np.zeros((1, 2, 8))}},
            "`outputs` must hold classes",
        ),
    ],
)
def test_what_cannot_be_decoded_is_refused(change, message):
    given = {"outputs": outputs([[[0.3], [0.6]]]), "proposals": boxes(1, 2)}
    with pytest.raises(ValueError, match=message):
        detection.detect(**{**given, **change})


def test_a_keras_model_trains_on_padded_proposals():
    """Padding moves neither loss nor weights."""
    target, _ = regression()

    def trained(places):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((None, 3))
        model = keras.Model(inputs, keras.layers.Dense(4 * CLASSES)(inputs))
        model.compile(keras.optimizers.SGD(0.1), detection.BoxRegression())
        x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
        history = model.fit(x[:1, :places], target[:1, :places], epochs=2, verbose=0)
        return history.history["loss"], model.get_weights()

    (losses, weights), (padded, padded_weights) = trained(4), trained(6)
    npt.assert_allclose(padded, losses, rtol=1e-5)
    for one, other in zip(weights, padded_weights, strict=True):
        npt.assert_allclose(other, one, atol=1e-6)
