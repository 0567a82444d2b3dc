"""Mean average precision of detected objects by the definition of PASCAL VOC 2007."""

import tensorflow as tf

from ensemble_heads.detection.boxes import (
    check_boxes,
    has_area,
    intersection_over_union,
)
from ensemble_heads.keras_api import register
from ensemble_heads.metrics.average_precision import by_threshold, cumsum_within
from ensemble_heads.metrics.buffered_metric import BufferedMetric
from ensemble_heads.metrics.entry_buffer import EntryBuffer
from ensemble_heads.metrics.mean_average_precision import EMPTY

_RECALLS = 11  # 0, 0.1, … 1


@register
class VOCMeanAveragePrecision(BufferedMetric):
    """Eleven-point interpolated average precision of each class, averaged.

    A detection takes the object of its image and class that it overlaps most. If their
    intersection over union is at least `iou_threshold`, it is a hit, and of several
    detections of one object only that of the highest score is; all else are misses.
    Those that take a difficult object are left out, and such objects need not be
    found. A class' average precision is the mean, over the recalls 0, 0.1, … 1, of
    the best precision at that recall or a higher one. Detections of equal score share
    one threshold, so that no order among them is ever made up.

    Exact: every detection is kept until `reset_state`, `9 * max_detections` bytes per
    image. Under a strategy the result is that of all replicas together.

    >>> from ensemble_heads import metrics
    >>> metric = metrics.VOCMeanAveragePrecision(num_classes=2, max_detections=2)
    >>> metric.update_state(
    ...     {"boxes": [[[0.1, 0.1, 0.5, 0.5]]], "classes": [[0]]},
    ...     {
    ...         "boxes": [[[0.6, 0.6, 0.9, 0.9], [0.1, 0.1, 0.5, 0.4]]],
    ...         "classes": [[0, 0]],
    ...         "scores": [[0.9, 0.8]],
    ...     },
    ... )
    >>> float(metric.result())  # the object is found second: 1 of 2 at every recall
    0.5

    Args:
        num_classes: int >= 1.
        max_detections: int >= 1, detections that an image has at most.
        iou_threshold: float in (0, 1].
        ignore_difficult: bool; False treats difficult objects like all others.
        classes_without_positives: `"skip"` leaves them out of the mean, `"zero"`
            counts them as 0.
        max_images: int, images that a replica sees between two resets at most; needed
            under XLA only. Default: any number.
        name: str.
        dtype: of the result.

    Raises:
        ValueError: an argument out of its range.

    References:
        Everingham et al. 2010, The PASCAL visual object classes challenge, section 4.2.
    """

    rules = (
        "scores must not be NaN, which has no rank",
        "classes must be from 0 to `num_classes` - 1, or -1 for padding",
        "boxes must be finite",
    )

    unit = "images"

    def __init__(
        self,
        num_classes,
        max_detections=100,
        iou_threshold=0.5,
        ignore_difficult=True,
        classes_without_positives="skip",
        max_images=None,
        name="voc_map",
        dtype=None,
    ):
        super().__init__(name=name, dtype=dtype)
        for key, value in (
            ("num_classes", num_classes),
            ("max_detections", max_detections),
            ("max_images", 1 if max_images is None else max_images),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{key}` must be an int of at least 1. Received: {key}={value!r}"
                )
        if not 0 < iou_threshold <= 1:
            raise ValueError(
                f"`iou_threshold` must be in (0, 1]. Received: {iou_threshold=}"
            )
        if classes_without_positives not in EMPTY:
            raise ValueError(
                f"`classes_without_positives` must be one of {EMPTY}. Received: "
                f"{classes_without_positives=}"
            )
        self.num_classes, self.max_detections = num_classes, max_detections
        self.iou_threshold, self.ignore_difficult = iou_threshold, ignore_difficult
        self.classes_without_positives = classes_without_positives
        self.max_images = max_images
        row = [max_detections]
        columns = [(row, tf.float32), (row, tf.int32), (row, tf.bool)]
        self._buffer = EntryBuffer(columns, num_classes, max_images)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Takes one batch.

        Args:
            y_true: dict of the objects: `"boxes"` `[batch, objects, 4]`, `"classes"`
                integers `[batch, objects]`, and, where there are any, `"difficult"`,
                bool `[batch, objects]`. Boxes of no area are padding, and so are
                those of class -1.
            y_pred: dict of the detections, as `eh.detection.detect` gives them:
                `"boxes"` `[batch, detections, 4]`, `"scores"` `[batch, detections]`
                and `"classes"` `[batch, detections]`, -1 for padding.
            sample_weight: None; the definition has no weights.

        Raises:
            ValueError: other keys or shapes, too many detections, or weights.
        """
        if sample_weight is not None:
            raise ValueError(
                "`sample_weight` must be None: the definition knows no weights. "
                f"Received: sample_weight={sample_weight!r}"
            )
        objects = _taken("y_true", y_true, ("classes",), ("difficult",))
        found = _taken("y_pred", y_pred, ("classes", "scores"))
        scores, classes = tf.cast(found["scores"], tf.float32), found["classes"]
        is_entry, labels = classes >= 0, objects["classes"]
        self._count_refused(
            is_entry & tf.math.is_nan(scores),
            tf.reduce_any(_beyond(classes, self.num_classes))
            | tf.reduce_any(_beyond(labels, self.num_classes)),
            ~tf.reduce_all(tf.math.is_finite(found["boxes"]))
            | ~tf.reduce_all(tf.math.is_finite(objects["boxes"])),
        )
        counted = (labels >= 0) & has_area(objects["boxes"])
        hits, ignored = self._match(objects, counted, found, scores)
        if self.ignore_difficult:
            counted &= ~objects["difficult"]
        positives = tf.reduce_sum(
            tf.one_hot(
                tf.where(counted, labels, -1), self.num_classes, dtype="float64"
            ),
            axis=[0, 1],
        )
        nothing = tf.constant(float("nan"), scores.dtype)
        scores = tf.where(is_entry & ~ignored, scores, nothing)
        self._buffer.append(self._padded(scores, classes, hits), positives)

    @tf.autograph.experimental.do_not_convert
    def result(self):
        precisions, positives = self._by_class()
        if self.classes_without_positives == "zero":
            value = tf.reduce_mean(precisions)
        else:
            known = tf.cast(positives > 0, precisions.dtype)
            total = tf.reduce_sum(known)
            value = tf.math.divide_no_nan(tf.reduce_sum(precisions), total)
        return self._complete(value)

    def class_results(self):
        """float64 `[num_classes]`: average precisions, NaN where there is no object."""
        precisions, positives = self._by_class()
        nan = tf.constant(float("nan"), tf.float64)
        return tf.where(positives > 0, precisions, nan)

    def get_config(self):
        own = ("num_classes", "max_detections", "iou_threshold", "ignore_difficult")
        own += ("classes_without_positives", "max_images")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}

    def _match(self, objects, counted, found, scores):
        """bool `[batch, detections]` twice: which are hits, and which are left out."""
        overlap = intersection_over_union(found["boxes"], objects["boxes"])
        alike = found["classes"][:, :, tf.newaxis] == objects["classes"][:, tf.newaxis]
        # One more, which no detection overlaps, so that there may be no objects.
        overlap = tf.where(alike & counted[:, tf.newaxis], overlap, -1)
        overlap = tf.pad(overlap, [[0, 0], [0, 0], [0, 1]], constant_values=-1)
        difficult = tf.pad(objects["difficult"], [[0, 0], [0, 1]])
        best = tf.argmax(overlap, axis=-1, output_type=tf.int32)
        taken = tf.reduce_max(overlap, axis=-1) >= self.iou_threshold
        taken &= found["classes"] >= 0
        is_difficult = tf.gather(difficult, best, batch_dims=1)
        ignored = taken & is_difficult & self.ignore_difficult
        place = tf.range(tf.shape(scores)[1])
        first, second = scores[:, :, tf.newaxis], scores[:, tf.newaxis]
        ahead = (second > first) | ((second == first) & (place < place[:, tf.newaxis]))
        same = best[:, :, tf.newaxis] == best[:, tf.newaxis]
        again = tf.reduce_any(ahead & same & taken[:, tf.newaxis], axis=-1)
        return taken & ~ignored & ~again, ignored

    def _padded(self, scores, classes, hits):
        """Rows of `max_detections` entries; NaN is no entry."""
        count = scores.shape[1]
        if count is None or count > self.max_detections:
            raise ValueError(
                "`max_detections` must be at least the number of detections of an "
                f"image, which must be known. Received: max_detections="
                f"{self.max_detections}, y_pred of shape {tuple(scores.shape)}"
            )
        missing = [[0, 0], [0, self.max_detections - count]]
        scores = tf.pad(scores, missing, constant_values=float("nan"))
        classes = tf.clip_by_value(classes, 0, self.num_classes - 1)
        return [scores, tf.pad(classes, missing), tf.pad(hits, missing)]

    def _by_class(self):
        """float64 `[num_classes]` twice: average precisions, and numbers of objects."""
        (scores, classes, hits), filled, positives = self._buffer.read()
        weights = tf.broadcast_to(filled[:, tf.newaxis], tf.shape(scores))
        flat = [tf.reshape(x, [-1]) for x in (scores, hits, weights, classes)]
        found, seen, owners = by_threshold(*flat)
        hits = cumsum_within(found, owners, self.num_classes)
        entries = cumsum_within(seen, owners, self.num_classes)
        precisions = tf.math.divide_no_nan(hits, entries)
        # recall >= k / 10 in whole numbers, where division would round
        wanted = tf.range(_RECALLS, dtype=tf.float64)
        wanted *= tf.gather(positives, owners)[:, tf.newaxis]
        reached = (_RECALLS - 1) * hits[:, tf.newaxis] >= wanted
        reached &= (seen > 0)[:, tf.newaxis]
        best = tf.where(reached, precisions[:, tf.newaxis], tf.zeros([], tf.float64))
        best = tf.math.unsorted_segment_max(best, owners, self.num_classes)
        average = tf.reduce_mean(tf.maximum(best, 0), axis=-1)
        return tf.where(positives > 0, average, 0), positives


def _beyond(classes, num_classes):
    return (classes < -1) | (classes >= num_classes)


def _taken(argument, values, keys, optional=()):
    """Tensors of one side by key: boxes, int32 classes, scores, bool flags."""
    known = {"boxes", *keys, *optional}
    missing = not isinstance(values, dict) or {"boxes", *keys} - set(values)
    if missing or set(values) - known:
        given = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise ValueError(
            f"`{argument}` must be a dict of {sorted(known)}. "
            f"Received: {argument}={given}"
        )
    boxes = check_boxes(argument, values["boxes"])
    taken = {key: tf.convert_to_tensor(values[key]) for key in keys}
    taken["classes"] = tf.cast(taken["classes"], tf.int32)
    for key in optional:
        given = values.get(key)
        empty = tf.zeros_like(taken["classes"], tf.bool)
        taken[key] = empty if given is None else tf.cast(given, tf.bool)
    for key, tensor in taken.items():
        if (
            not tensor.shape.is_compatible_with(boxes.shape[:-1])
            or boxes.shape.rank != 3
        ):
            raise ValueError(
                f"`{argument}` must hold boxes [batch, boxes, 4] and all else "
                f"[batch, boxes]. Received: boxes of shape {tuple(boxes.shape)}, "
                f"{key} of shape {tuple(tensor.shape)}"
            )
    return {"boxes": boxes, **taken}
