"""From a detector's outputs to detections: decoded boxes without near duplicates."""

import tensorflow as tf

from ensemble_heads.detection.boxes import check_boxes, decode_boxes, has_area
from ensemble_heads.predictions import widen


def detect(
    outputs,
    proposals,
    max_detections=100,
    iou_threshold=0.3,
    score_threshold=0.0,
    regress_boxes=True,
):
    """The detections of every image: boxes decoded, then per class the best kept.

    Of boxes of one class that overlap by more than `iou_threshold` the one of the
    highest score stays (non-maximum suppression, `tf.image`'s). Proposals of no area
    are padding and detect nothing.

    Args:
        outputs: dict of a detector's outputs: `"classes"`, probabilities
            `[batch, proposals, classes + 1]`, the background first, and `"boxes"`,
            offsets `[batch, proposals, 4 * classes]`.
        proposals: `[batch, proposals, 4]`.
        max_detections: int >= 1, kept per image, the best over all classes.
        iou_threshold: float in [0, 1]. Fast R-CNN's is 0.3.
        score_threshold: float; detections score more than that.
        regress_boxes: bool; False leaves the proposals as they are (Lee et al. 2015,
            Table 8).

    Returns:
        Dict: `"boxes"` float32 `[batch, max_detections, 4]`, `"scores"` float32
        `[batch, max_detections]`, best first, and `"classes"` int32
        `[batch, max_detections]` from 0. Where there are fewer detections, the rest
        is 0, 0 and -1. Not for XLA, which has no such suppression.

    Raises:
        ValueError: outputs of other shapes, or an argument out of its range.
    """
    _check(max_detections, iou_threshold, score_threshold)
    proposals = check_boxes("proposals", proposals)
    probabilities, offsets = _outputs(outputs, proposals)
    classes = probabilities.shape[-1] - 1
    proposals = tf.cast(proposals, offsets.dtype)
    boxes = proposals[:, :, tf.newaxis]
    if regress_boxes:
        shape = tf.concat([tf.shape(offsets)[:2], [classes, 4]], axis=0)
        boxes = decode_boxes(tf.reshape(offsets, shape), boxes)
    real = has_area(proposals)[..., tf.newaxis]
    scores = tf.where(real, probabilities[..., 1:], -1.0)
    found = tf.image.combined_non_max_suppression(
        tf.cast(boxes, tf.float32),
        tf.cast(scores, tf.float32),
        max_output_size_per_class=max_detections,
        max_total_size=max_detections,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
    )
    filled = tf.range(max_detections) < found.valid_detections[:, tf.newaxis]
    return {
        "boxes": found.nmsed_boxes,
        "scores": found.nmsed_scores,
        "classes": tf.where(filled, tf.cast(found.nmsed_classes, tf.int32), -1),
    }


def _outputs(outputs, proposals):
    """Probabilities and offsets in float32 or wider, their shapes checked."""
    wanted = {"classes", "boxes"}
    if not isinstance(outputs, dict) or set(outputs) != wanted:
        names = sorted(outputs) if isinstance(outputs, dict) else type(outputs).__name__
        raise ValueError(
            "`outputs` must be a dict of `classes` and `boxes`. "
            f"Received: outputs={names}"
        )
    probabilities, offsets = widen(outputs["classes"]), widen(outputs["boxes"])
    shapes = [tensor.shape for tensor in (probabilities, offsets, proposals)]
    fits = all(shape.rank == 3 for shape in shapes) and (
        4 * (shapes[0][-1] - 1) == shapes[1][-1]
        and all(shape[:2].is_compatible_with(shapes[2][:2]) for shape in shapes)
    )
    if not fits:
        raise ValueError(
            "`outputs` must hold classes [batch, proposals, classes + 1] and boxes "
            "[batch, proposals, 4 * classes] for proposals [batch, proposals, 4]. "
            f"Received: classes of shape {tuple(shapes[0])}, boxes of shape "
            f"{tuple(shapes[1])}, proposals of shape {tuple(shapes[2])}"
        )
    return probabilities, offsets


def _check(max_detections, iou_threshold, score_threshold):
    whole = isinstance(max_detections, int) and not isinstance(max_detections, bool)
    if not whole or max_detections < 1:
        raise ValueError(
            f"`max_detections` must be an integer of at least 1. "
            f"Received: {max_detections=}"
        )
    if not 0 <= iou_threshold <= 1:
        raise ValueError(
            f"`iou_threshold` must be in [0, 1]. Received: {iou_threshold=}"
        )
    if not 0 <= score_threshold <= 1:
        raise ValueError(
            f"`score_threshold` must be in [0, 1]. Received: {score_threshold=}"
        )
