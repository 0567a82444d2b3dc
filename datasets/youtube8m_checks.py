"""The checks of a YouTube-8M record in Python: for reading past bad records.

The same rules as in the graph (datasets/youtube8m_records.py), which a test holds
against each other. A record takes about half a millisecond.
"""

import tensorflow as tf

from datasets import youtube8m_records as records
from datasets.record_checks import LISTS, Broken, feature_values, naming, parse, typed


def check(serialized, path, number, form):
    """The parsed record.

    Args:
        serialized: bytes.
        path, number: str and int, for the message.
        form: `youtube8m_records.Form`.

    Returns:
        `tf.train.SequenceExample`, or `tf.train.Example` at level `"video"`.

    Raises:
        RecordError: it cannot be used.
    """
    with naming(path, number):
        if form.level == "video":
            return _check_video(serialized, form)
        return _check_frames(serialized, form)


def _check_video(serialized, form):
    features = parse(tf.train.Example, serialized).features.feature
    _check_context(features, form)
    for name, size in form.features.items():
        name = records.mean_name(name)
        values = feature_values(features, name, "float_list")
        if len(values) != size:
            rule = f"`{name}` must hold {size} numbers."
            raise Broken(name, rule, f"{len(values)} numbers.")


def _check_frames(serialized, form):
    record = parse(tf.train.SequenceExample, serialized)
    context = record.context.feature
    _check_context(context, form)
    said, first, count = records.rules(form), None, 0
    for name, size in form.features.items():
        lists = record.feature_lists.feature_list
        frames = lists[name].feature if name in lists else ()
        for frame in frames:
            kind = frame.WhichOneof("kind")
            if kind != "bytes_list":
                raise Broken(name, typed(name), f"{LISTS.get(kind, 'nothing')}.")
            values = frame.bytes_list.value
            if len(values) != 1:
                rule = f"`{name}` must have one value in each frame."
                raise Broken(name, rule, f"{len(values)} values in a frame.")
            if len(values[0]) != size:
                received = f"{len(values[0])} bytes in a frame."
                raise Broken(name, said[name], received)
        if first is None:
            first, count = name, len(frames)
        if not frames and name == first:
            raise Broken(name, f"`{name}` must have at least one frame.", "none.")
        if len(frames) != count:
            rule = f"`{name}` must have as many frames as `{first}`."
            raise Broken(name, rule, f"{len(frames)} frames against {count}.")
    if form.level == "segment":
        _check_segments(context, count, form)
    return record


def _check_segments(context, count, form):
    starts = feature_values(context, "segment_start_times", "int64_list")
    for name, kind in (
        ("segment_labels", "int64_list"),
        ("segment_scores", "float_list"),
        ("segment_end_times", "int64_list"),
    ):
        values = feature_values(context, name, kind)
        missing = name == "segment_end_times" and not values
        if len(values) != len(starts) and not missing:
            rule = f"`{name}` must have as many values as `segment_start_times`."
            raise Broken(name, rule, f"{len(values)} for {len(starts)}.")
    for start in starts:
        if not 0 <= start < count:
            rule = "`segment_start_times` must lie within the video."
            raise Broken("segment_start_times", rule, f"{start} of {count} frames.")
    for label in feature_values(context, "segment_labels", "int64_list"):
        if not 0 <= label < form.num_classes:
            rule = f"`segment_labels` must be from 0 to {form.num_classes - 1}."
            raise Broken("segment_labels", rule, f"{label}.")
    for score in feature_values(context, "segment_scores", "float_list"):
        if not 0.0 <= score <= 1.0:
            rule = "`segment_scores` must be from 0 to 1."
            raise Broken("segment_scores", rule, f"{score:f}.")


def _check_context(features, form):
    ids = feature_values(features, "id", "bytes_list")
    if "id" in features and len(ids) != 1:
        raise Broken("id", typed("id"), f"{len(ids)} values.")
    for label in feature_values(features, "labels", "int64_list"):
        if not 0 <= label < form.num_classes:
            raise Broken("labels", records.rules(form)["labels"], f"{label}.")
