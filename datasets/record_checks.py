"""What the checks of records in Python share: for reading past bad ones.

A data set's own checks raise `Broken`; they hold the same rules as its graph, which a
test holds against each other.
"""

import contextlib
import itertools

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.python.lib.io.tf_record import tf_record_random_reader

from datasets import record_errors, tfrecord_framing
from datasets.record_order import BLOCK

LISTS = {"int64_list": "int64", "float_list": "float", "bytes_list": "bytes"}


class Broken(Exception):
    """(field, rule, received), of a record whose place the caller knows."""


class Misfit(Broken):
    """The same, where a setting must be at fault: others would break the rule too."""


@contextlib.contextmanager
def naming(path, number):
    """Makes a `RecordError` of what is `Broken` in that record."""
    try:
        yield
    except Broken as broken:
        field, rule, received = broken.args
        text = f"{rule} Received: {received}"
        raise record_errors.RecordError(
            path, number, field, text, is_setting=isinstance(broken, Misfit)
        ) from None


def good_blocks(path, check, keep, bad):
    """Yields what can be used of a file, in blocks; notes what cannot.

    Raises what no record is at fault for, marked for `record_errors.clear_errors`.

    Args:
        path: str.
        check: callable (serialized, path, number) that raises `RecordError`.
        keep: callable, record number -> bool.
        bad: `BadRecords`.

    Yields:
        {"record": list of bytes, "number": list of int}.
    """
    block = {"record": [], "number": []}
    for number, serialized in whole_records(path, bad):
        if keep(number):
            try:
                check(serialized, path, number)
            except record_errors.RecordError as error:
                with record_errors.marked():
                    if error.is_setting:
                        raise
                bad.add(error)
            else:
                block["record"].append(serialized)
                block["number"].append(number)
        if len(block["number"]) == BLOCK:
            yield block
            block = {"record": [], "number": []}
    if block["number"]:
        yield block


def whole_records(path, bad):
    """Yields (number, record) of a file, past those that are damaged.

    `bad` notes these. After one whose length is damaged nothing more is found.
    """
    read = 0
    try:
        for serialized in tf.data.TFRecordDataset(path).as_numpy_iterator():
            yield read, serialized
            read += 1
        return
    except tf.errors.DataLossError:
        pass
    # TensorFlow's reader ends here, where the headers may still tell what follows.
    reader, places = tf_record_random_reader(path), tfrecord_framing.walk(path)
    for number, (start, length) in itertools.islice(enumerate(places), read, None):
        try:
            serialized, _ = reader.read(start)
        except (tf.errors.DataLossError, IndexError) as error:
            bad.add(record_errors.damage_by(error, path, number, length is None))
        else:
            yield number, serialized


def parse(message, serialized):
    """A message of that class, or `Broken`."""
    try:
        return message.FromString(serialized)
    except DecodeError:
        raise Broken(
            "record", record_errors.NO_MESSAGE, "bytes that are none."
        ) from None


def feature_values(features, name, kind):
    """The values of a feature, () where it is missing, or `Broken`."""
    if name not in features:
        return ()
    received = features[name].WhichOneof("kind")
    if received not in (kind, None):
        raise Broken(name, typed(name), f"{LISTS[received]}.")
    return getattr(features[name], kind).value


def typed(name):
    """The rule that a feature of another type breaks."""
    return record_errors.NO_SUCH_TYPE.format(name=name)
