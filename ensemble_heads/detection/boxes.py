"""Boxes `(y1, x1, y2, x2)`: how far they overlap, and what turns one into another."""

import math

import tensorflow as tf

# What Fast R-CNN divides its offsets by, since their deviations are about that: the
# centre's in units of the proposal's sides, the sides' as logarithms.
SCALES = (0.1, 0.1, 0.2, 0.2)

# A proposal grows by no more than that, so that no output overflows.
_LARGEST_LOG = math.log(1000 / 16)


def check_boxes(name, boxes):
    """The boxes as a tensor, float32 or wider.

    Raises:
        ValueError: the last axis does not hold four numbers.
    """
    boxes = tf.convert_to_tensor(boxes)
    if boxes.shape.rank is None or boxes.shape.rank < 2 or boxes.shape[-1] != 4:
        raise ValueError(
            f"`{name}` must hold boxes (y1, x1, y2, x2), of shape [..., boxes, 4]. "
            f"Received: {name} of shape {tuple(boxes.shape)}"
        )
    return boxes if boxes.dtype == tf.float64 else tf.cast(boxes, tf.float32)


def _both(first_name, first, second_name, second):
    """Two tensors of boxes, of the wider dtype of both."""
    first, second = check_boxes(first_name, first), check_boxes(second_name, second)
    dtype = tf.float64 if tf.float64 in (first.dtype, second.dtype) else tf.float32
    return tf.cast(first, dtype), tf.cast(second, dtype)


def has_area(boxes):
    """bool `[...]`: whether boxes `[..., 4]` are any, not padding."""
    y1, x1, y2, x2 = tf.unstack(boxes, axis=-1)
    return (y2 > y1) & (x2 > x1)


def intersection_over_union(first, second):
    """Area that two boxes share over the area that both cover.

    >>> import ensemble_heads as eh
    >>> halves = [[0.0, 0.0, 1.0, 0.5], [0.0, 0.5, 1.0, 1.0]]
    >>> eh.detection.intersection_over_union([[0.0, 0.0, 1.0, 1.0]], halves).numpy()
    array([[0.5, 0.5]], dtype=float32)

    Args:
        first: `[..., m, 4]`.
        second: `[..., n, 4]`.

    Returns:
        `[..., m, n]` in [0, 1]; 0 where a box has no area.

    Raises:
        ValueError: the last axis of either does not hold four numbers.
    """
    first, second = _both("first", first, "second", second)
    first, second = first[..., :, tf.newaxis, :], second[..., tf.newaxis, :, :]
    shared = tf.minimum(first[..., 2:], second[..., 2:])
    shared -= tf.maximum(first[..., :2], second[..., :2])
    shared = tf.reduce_prod(tf.maximum(shared, 0), axis=-1)
    return tf.math.divide_no_nan(shared, _area(first) + _area(second) - shared)


def encode_boxes(boxes, proposals):
    """Offsets that turn proposals into boxes (Fast R-CNN's parametrisation).

    With centre c and side s along y and x: ((c_box - c) / s) / 0.1 and
    log(s_box / s) / 0.2.

    Args:
        boxes, proposals: `[..., n, 4]`.

    Returns:
        `[..., n, 4]`: y and x of the centre, height and width; 0 where either box has
        no area.

    Raises:
        ValueError: the last axis of either does not hold four numbers.

    References:
        Girshick et al. 2014, arXiv:1311.2524, appendix C.
    """
    boxes, proposals = _both("boxes", boxes, "proposals", proposals)
    known = (has_area(boxes) & has_area(proposals))[..., tf.newaxis]
    whole = tf.constant([0.0, 0.0, 1.0, 1.0], boxes.dtype)
    centre, side = _centre_and_side(tf.where(known, boxes, whole))
    of, over = _centre_and_side(tf.where(known, proposals, whole))
    offsets = tf.concat([(centre - of) / over, tf.math.log(side / over)], axis=-1)
    return tf.where(known, offsets / tf.constant(SCALES, offsets.dtype), 0)


def decode_boxes(offsets, proposals):
    """Boxes that offsets make of proposals, cut off at the edges of the image.

    The inverse of `encode_boxes` for boxes inside of the image.

    >>> import ensemble_heads as eh
    >>> box, proposal = [[0.1, 0.2, 0.5, 0.6]], [[0.2, 0.2, 0.4, 0.8]]
    >>> offsets = eh.detection.encode_boxes(box, proposal)
    >>> eh.detection.decode_boxes(offsets, proposal).numpy().round(3)
    array([[0.1, 0.2, 0.5, 0.6]], dtype=float32)

    Args:
        offsets: `[..., n, 4]`, of the shape of `proposals` or one that broadcasts.
        proposals: `[..., n, 4]`.

    Returns:
        `[..., n, 4]` in [0, 1].

    Raises:
        ValueError: the last axis of either does not hold four numbers.
    """
    offsets, proposals = _both("offsets", offsets, "proposals", proposals)
    offsets *= tf.constant(SCALES, offsets.dtype)
    centre, side = _centre_and_side(proposals)
    centre += offsets[..., :2] * side
    side *= tf.exp(tf.minimum(offsets[..., 2:], _LARGEST_LOG))
    boxes = tf.concat([centre - side / 2, centre + side / 2], axis=-1)
    return tf.clip_by_value(boxes, 0.0, 1.0)


def _area(boxes):
    return tf.reduce_prod(tf.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)


def _centre_and_side(boxes):
    """Two tensors `[..., 2]`, each of y and x."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low
