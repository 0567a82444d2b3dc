"""What the checks of records in Python share: for reading past bad ones.

A data set's own checks raise `Broken`; they hold the same rules as its graph, which a
test holds against each other.
"""

import contextlib

import tensorflow as tf
from google.protobuf.message import DecodeError

from datasets import record_errors
from datasets.record_order import BLOCK

LISTS = {"int64_list": "int64", "float_list": "float", "bytes_list": "bytes"}


class Broken(Exception):
    """(field, rule, received), of a record whose place the caller knows."""


@contextlib.contextmanager
def naming(path, number):
    """Makes a `RecordError` of what is `Broken` in that record."""
    try:
        yield
    except Broken as broken:
        field, rule, received = broken.args
        text = f"{rule} Received: {received}"
        raise record_errors.RecordError(path, number, field, text) from None


def good_blocks(path, check, keep, bad):
    """Yields what can be used of a file, in blocks; notes what cannot.

    Args:
        path: str.
        check: callable (serialized, path, number) that raises `RecordError`.
        keep: callable, record number -> bool.
        bad: `BadRecords`.

    Yields:
        {"record": list of bytes, "number": list of int}.
    """
    block, number = {"record": [], "number": []}, 0
    for serialized in whole_records(path, bad):
        if keep(number):
            try:
                check(serialized, path, number)
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
