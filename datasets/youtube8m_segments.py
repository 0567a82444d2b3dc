"""The 2019 segment files: five frames each, rated by people for some classes."""

import itertools

import tensorflow as tf
from google.protobuf.message import DecodeError

from datasets import record_checks, record_errors
from datasets import youtube8m_records as records

# In place of the label of a class that nobody rated the segment for.
UNRATED = -1.0

_MANY_FRAMES = 1 << 32  # more than any start time
_LOOKS = 1000  # records, one of which must be rated; a file of 2018 has as many


def check_rated(paths, bad=None):
    """Refuses files without rated segments, which would be an empty data set.

    Single records may have none, so that as many as needed are looked at, mostly one;
    but not all, as that takes hours where there are terabytes of frames.

    Args:
        paths: list of str.
        bad: `BadRecords` where bad records are left out; None fails at them, which is
            left to the reading.

    Raises:
        ValueError
    """
    looked, noted = 0, record_errors.BadRecords()
    first = (one for path in paths for one in record_checks.whole_records(path, noted))
    for _, serialized in itertools.islice(first, _LOOKS):
        if _is_rated(serialized):
            return
        looked += 1
    if noted.errors and bad is None:
        return
    raise ValueError(
        "`level` must be 'segment' only for files of rated segments, which have "
        "`segment_start_times` in the context of their records, as those of "
        "3/frame/validate; `files` can name them. Received: level='segment', and none "
        f"in {looked} records from {paths[0]} on"
    )


def segments(batch, paths, form):
    """The labelled segments of a batch of records, not yet decoded.

    Returns:
        dict of tensors `[segments, …]`: a string per frame and feature, `""` behind
        the end of the video; `"num_frames"`, `"labels"` with `UNRATED` and `"id"`.
    """
    context, strings, counts = records.checked_frames(
        batch, paths, form, _segment_context()
    )
    starts, labels = context["segment_start_times"], context["segment_labels"]
    scores = context["segment_scores"]
    checks = []
    for name in ("segment_labels", "segment_scores", "segment_end_times"):
        lengths = context[name].row_lengths()
        # End times follow from the start times, so files may leave them out.
        optional = (lengths == 0) & (name == "segment_end_times")
        checks += record_errors.assert_each(
            (lengths == starts.row_lengths()) | optional,
            paths,
            batch,
            name,
            f"`{name}` must have as many values as `segment_start_times`.",
            lengths,
            " for ",
            starts.row_lengths(),
            ".",
        )
    rows = starts.value_rowids()
    limits = tf.gather(counts, rows)
    with tf.control_dependencies(checks):
        values = tf.identity(starts.flat_values)
    checks = record_errors.assert_each(
        (values >= 0) & (values < limits),
        paths,
        batch,
        "segment_start_times",
        "`segment_start_times` must lie within the video.",
        values,
        " of ",
        limits,
        " frames.",
        of=rows,
    )
    checks += record_errors.assert_each(
        (labels.flat_values >= 0) & (labels.flat_values < form.num_classes),
        paths,
        batch,
        "segment_labels",
        f"`segment_labels` must be from 0 to {form.num_classes - 1}.",
        labels.flat_values,
        ".",
        of=labels.value_rowids(),
    )
    checks += record_errors.assert_each(
        (scores.flat_values >= 0.0) & (scores.flat_values <= 1.0),
        paths,
        batch,
        "segment_scores",
        "`segment_scores` must be from 0 to 1.",
        scores.flat_values,
        ".",
        of=scores.value_rowids(),
    )
    with tf.control_dependencies(checks):
        places = rows * _MANY_FRAMES + values
    unique, which = tf.unique(places, out_idx=tf.int64)
    record, start = unique // _MANY_FRAMES, unique % _MANY_FRAMES
    return {
        **_segment_frames(strings, counts, record, start, form),
        "labels": tf.tensor_scatter_nd_max(
            tf.fill([tf.size(unique), form.num_classes], UNRATED),
            tf.stack([which, labels.flat_values], axis=1),
            scores.flat_values,
        ),
        "id": tf.gather(context["id"], record),
    }


def segment_batch(batch, form):
    """An element of `youtube8m.load` from a batch of what `segments` gives."""
    octets = [
        tf.io.decode_raw(batch[name], tf.uint8, fixed_length=size)
        for name, size in form.features.items()
    ]
    frames = records.dequantise(tf.concat(octets, axis=-1))
    real = tf.sequence_mask(batch["num_frames"], records.SEGMENT_FRAMES)
    frames = tf.where(real[..., tf.newaxis], frames, 0.0)
    counts = batch["num_frames"]
    return records.frames_element(frames, counts, batch["labels"], batch["id"], form)


def rated_crossentropy(labels, predictions):
    """Binary cross entropy over the classes that a segment is rated for.

    A loss for `model.compile` and for multi-headed models.

    Args:
        labels: float `[batch, classes]`, 0 to 1, or `UNRATED`.
        predictions: float `[batch, classes]`, probabilities.

    Returns:
        `[batch]`, in nats, the mean over the rated classes; 0 without any.
    """
    predictions = tf.cast(predictions, tf.float32)  # in half precision 1 - 1e-7 is 1
    labels = tf.cast(labels, predictions.dtype)
    rated = labels >= 0.0
    target = tf.where(rated, labels, 0.0)
    low = tf.constant(1e-7, predictions.dtype)
    sure = tf.clip_by_value(predictions, low, 1.0 - low)
    losses = -target * tf.math.log(sure) - (1.0 - target) * tf.math.log(1.0 - sure)
    total = tf.reduce_sum(tf.where(rated, losses, 0.0), axis=-1)
    number = tf.reduce_sum(tf.cast(rated, predictions.dtype), axis=-1)
    return tf.math.divide_no_nan(total, number)


def _is_rated(serialized):
    try:
        context = tf.train.SequenceExample.FromString(serialized).context.feature
    except DecodeError:
        return False  # the reading tells
    name = "segment_start_times"
    return name in context and bool(context[name].int64_list.value)


def _segment_context():
    whole = ("segment_labels", "segment_start_times", "segment_end_times")
    ratings = {name: records.ragged(tf.int64) for name in whole}
    return {
        **records.context_features(),
        **ratings,
        "segment_scores": records.ragged(tf.float32),
    }


def _segment_frames(strings, counts, record, start, form):
    steps = start[:, tf.newaxis] + tf.range(records.SEGMENT_FRAMES, dtype=tf.int64)
    limit = tf.gather(counts, record)[:, tf.newaxis]
    found = {}
    for name in form.features:
        rows = strings[name]
        offset = tf.gather(rows.row_starts(), record)[:, tf.newaxis]
        index = offset + tf.minimum(steps, limit - 1)
        found[name] = tf.where(steps < limit, tf.gather(rows.flat_values, index), "")
    real = tf.reduce_sum(tf.cast(steps < limit, tf.int32), axis=1)
    return {**found, "num_frames": real}
