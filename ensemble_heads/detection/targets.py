"""What proposals are to learn, from the objects of their images."""

import tensorflow as tf

from ensemble_heads.detection.boxes import (
    check_boxes,
    encode_boxes,
    has_area,
    intersection_over_union,
)


def assign_targets(proposals, boxes, classes, iou_threshold=0.5):
    """Gives every proposal the object that it overlaps most, or the background.

    Args:
        proposals: `[batch, proposals, 4]`; those of no area are padding.
        boxes: `[batch, objects, 4]`, of the objects; those of no area are padding.
        classes: integers `[batch, objects]` from 0; boxes of negative ones are padding.
        iou_threshold: float in (0, 1]; from this intersection over union on a
            proposal is an object.

    Returns:
        Dict of targets, as the outputs of a detector are called: `"classes"`, int32
        `[batch, proposals]`, the object's class + 1, 0 for the background and -1 for
        padding; `"boxes"`, float32 `[batch, proposals, 5]`, that number and the four
        offsets (`encode_boxes`) from the proposal to the object's box, 0 where there
        is none.

    Raises:
        ValueError: wrong shapes, or a threshold out of its range.
        tf.errors.InvalidArgumentError: wrong sizes that the graph did not know.
    """
    if not 0 < iou_threshold <= 1:
        raise ValueError(
            f"`iou_threshold` must be in (0, 1]. Received: {iou_threshold=}"
        )
    proposals, boxes = check_boxes("proposals", proposals), check_boxes("boxes", boxes)
    classes = tf.cast(classes, tf.int32)
    if classes.shape.rank is None:
        classes = tf.ensure_shape(classes, [None] * (boxes.shape.rank - 1))
    rule = "`classes` must hold one number per box. Received: classes of shape"
    if not classes.shape.is_compatible_with(boxes.shape[:-1]):
        shapes = tuple(classes.shape), tuple(boxes.shape)
        raise ValueError(f"{rule} {shapes[0]}, boxes of shape {shapes[1]}")
    sizes = tf.shape(classes), tf.shape(boxes)[:-1]
    check = tf.debugging.Assert(
        tf.reduce_all(sizes[0] == sizes[1]), [rule, sizes[0], "for boxes of", sizes[1]]
    )
    with tf.control_dependencies([check]):
        boxes = tf.where(classes[..., tf.newaxis] >= 0, boxes, 0)
    # One more, which no proposal overlaps, so that there may be no objects.
    boxes = _with_padding(boxes, -2)
    classes = _with_padding(classes, -1)
    overlap = intersection_over_union(proposals, boxes)
    best = tf.argmax(overlap, axis=-1, output_type=tf.int32)
    is_object = tf.reduce_max(overlap, axis=-1) >= iou_threshold
    labels = tf.gather(classes, best, batch_dims=classes.shape.rank - 1) + 1
    labels = tf.where(is_object, labels, 0)
    labels = tf.where(has_area(proposals), labels, -1)
    matched = tf.gather(boxes, best, batch_dims=classes.shape.rank - 1)
    offsets = encode_boxes(matched, proposals)
    offsets = tf.where(is_object[..., tf.newaxis], offsets, 0)
    numbers = tf.cast(labels, offsets.dtype)[..., tf.newaxis]
    return {
        "classes": labels,
        "boxes": tf.cast(tf.concat([numbers, offsets], axis=-1), tf.float32),
    }


def _with_padding(tensor, axis):
    """The tensor with a row of zeros more at the end of an axis."""
    margins = [[0, 0]] * tensor.shape.rank
    margins[axis] = [0, 1]
    return tf.pad(tensor, margins)
