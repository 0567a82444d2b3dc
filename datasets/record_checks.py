"""The checks of a record in Python: for reading past bad records, one at a time.

The same rules as in the graph (datasets/youtube8m_records.py), which a test holds
against each other. A record takes about half a millisecond.
"""

import tensorflow as tf
from google.protobuf.message import DecodeError

from datasets import record_errors
from datasets import youtube8m_records as records
from datasets.record_order import BLOCK

_LISTS = {"int64_list": "int64", "float_list": "float", "bytes_list": "bytes"}


class _Broken(Exception):
    """(field, rule, received)"""


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
    try:
        if form.level == "video":
            return _check_video(serialized, form)
        return _check_frames(serialized, form)
    except _Broken as broken:
        field, rule, received = broken.args
        text = f"{rule} Received: {received}"
        raise record_errors.RecordError(path, number, field, text) from None


def good_blocks(path, form, keep, bad):
    """Yields what can be used of a file, in blocks; notes what cannot.

    Args:
        path: str.
        form: `youtube8m_records.Form`.
        keep: callable, record number -> bool.
        bad: `BadRecords`.

    Yields:
        {"record": list of bytes, "number": list of int}.
    """
    block, number = {"record": [], "number": []}, 0
    for serialized in whole_records(path, bad):
        if keep(number):
            try:
                check(serialized, path, number, form)
            except record_errors.RecordError as error:
                bad.add(error)
            else:
                block["record"].append(serialized)
                block["number"].append(number)
        if len(block["number"]) == BLOCK:
            yield block
            block = {"record": [], "number": []}
        number += 1
    if block["number"]:
        yield block


def whole_records(path, bad):
    """Yields the records of a file up to where it is damaged, which `bad` notes."""
    number = 0
    iterator = iter(tf.data.TFRecordDataset(path).as_numpy_iterator())
    while True:
        try:
            serialized = next(iterator)
        except StopIteration:
            return
        except tf.errors.DataLossError as error:
            kind = "truncated" if "truncated" in str(error) else "corrupted"
            bad.add(record_errors.damage(path, number, kind))
            return
        yield serialized
        number += 1


def _check_video(serialized, form):
    features = _parse(tf.train.Example, serialized).features.feature
    _check_context(features, form)
    for name, size in form.features.items():
        name = records.mean_name(name)
        values = _values(features, name, "float_list")
        if len(values) != size:
            rule = f"`{name}` must hold {size} numbers."
            raise _Broken(name, rule, f"{len(values)} numbers.")


def _check_frames(serialized, form):
    record = _parse(tf.train.SequenceExample, serialized)
    context = record.context.feature
    _check_context(context, form)
    said, first, count = records.rules(form), None, 0
    for name, size in form.features.items():
        lists = record.feature_lists.feature_list
        frames = lists[name].feature if name in lists else ()
        for frame in frames:
            kind = frame.WhichOneof("kind")
            if kind != "bytes_list":
                raise _Broken(name, _typed(name), f"{_LISTS.get(kind, 'nothing')}.")
            values = frame.bytes_list.value
            if len(values) != 1:
                rule = f"`{name}` must have one value in each frame."
                raise _Broken(name, rule, f"{len(values)} values in a frame.")
            if len(values[0]) != size:
                received = f"{len(values[0])} bytes in a frame."
                raise _Broken(name, said[name], received)
        if first is None:
            first, count = name, len(frames)
        if not frames and name == first:
            raise _Broken(name, f"`{name}` must have at least one frame.", "none.")
        if len(frames) != count:
            rule = f"`{name}` must have as many frames as `{first}`."
            raise _Broken(name, rule, f"{len(frames)} frames against {count}.")
    if form.level == "segment":
        _check_segments(context, count, form)
    return record


def _check_segments(context, count, form):
    starts = _values(context, "segment_start_times", "int64_list")
    for name, kind in (
        ("segment_labels", "int64_list"),
        ("segment_scores", "float_list"),
        ("segment_end_times", "int64_list"),
    ):
        values = _values(context, name, kind)
        missing = name == "segment_end_times" and not values
        if len(values) != len(starts) and not missing:
            rule = f"`{name}` must have as many values as `segment_start_times`."
            raise _Broken(name, rule, f"{len(values)} for {len(starts)}.")
    for start in starts:
        if not 0 <= start < count:
            rule = "`segment_start_times` must lie within the video."
            raise _Broken("segment_start_times", rule, f"{start} of {count} frames.")
    for label in _values(context, "segment_labels", "int64_list"):
        if not 0 <= label < form.num_classes:
            rule = f"`segment_labels` must be from 0 to {form.num_classes - 1}."
            raise _Broken("segment_labels", rule, f"{label}.")


def _check_context(features, form):
    ids = _values(features, "id", "bytes_list")
    if "id" in features and len(ids) != 1:
        raise _Broken("id", _typed("id"), f"{len(ids)} values.")
    for label in _values(features, "labels", "int64_list"):
        if not 0 <= label < form.num_classes:
            raise _Broken("labels", records.rules(form)["labels"], f"{label}.")


def _parse(message, serialized):
    try:
        return message.FromString(serialized)
    except DecodeError:
        raise _Broken(
            "record", record_errors.NO_MESSAGE, "bytes that are none."
        ) from None


def _values(features, name, kind):
    if name not in features:
        return ()
    received = features[name].WhichOneof("kind")
    if received not in (kind, None):
        raise _Broken(name, _typed(name), f"{_LISTS[received]}.")
    return getattr(features[name], kind).value


def _typed(name):
    return record_errors.NO_SUCH_TYPE.format(name=name)
