"""TFRecords of JPEG frames: their form, their index, and how one of them is read.

A record is a `SequenceExample` with the names of MediaSequence: in the context
`clip/label/index` (int64 from 0), `clip/label/string` and `clip/media_id`; the feature
lists `image/encoded`, a JPEG for each frame, and `image/timestamp`, when it is shown in
microseconds. Records by others may lack all but label and frames.

Beside `train-00003-of-00064.tfrecord` may lie `train-00003-of-00064.json`, which tells
where its records start, so that nobody has to look.
"""

import concurrent.futures
import io
import itertools
import json
import re

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

# Not part of TensorFlow's public interface, where records are read in a row only; this
# one reads from any place, here or far away, and verifies the checksums.
from tensorflow.python.lib.io.tf_record import tf_record_random_reader

from datasets import shard_files, tfrecord_framing
from datasets.kinetics_files import SPLIT_NAMES, plain
from datasets.record_errors import RecordError, damage_by
from datasets.shard_files import base_name

LABEL, CLASS_NAME = "clip/label/index", "clip/label/string"
NAME, FRAMES, TIMES = "clip/media_id", "image/encoded", "image/timestamp"
SUFFIX = ".tfrecord"
CLASSES = "classes.txt"  # the names, one a line

_MICROSECONDS = 1e-6
_LOOKS = 16  # files that are looked through at the same time


def serialize(name, label, class_name, times, frames):
    """A record's bytes; the same for the same video.

    Args:
        name: str.
        label: int.
        class_name: str, or None.
        times: float `[frames]`, seconds.
        frames: list of bytes, a JPEG each.
    """
    context = {
        LABEL: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        NAME: _octets(name.encode()),
    }
    if class_name is not None:
        context[CLASS_NAME] = _octets(class_name.encode())
    stamps = np.rint(np.asarray(times) / _MICROSECONDS).astype(np.int64).tolist()
    lists = {
        FRAMES: [_octets(frame) for frame in frames],
        TIMES: [
            tf.train.Feature(int64_list=tf.train.Int64List(value=[stamp]))
            for stamp in stamps
        ],
    }
    record = tf.train.SequenceExample(
        context=tf.train.Features(feature=context),
        feature_lists=tf.train.FeatureLists(
            feature_list={
                key: tf.train.FeatureList(feature=values)
                for key, values in lists.items()
            }
        ),
    )
    return record.SerializeToString(deterministic=True)


def list_shards(split, data_dir, files=None):
    """Paths of a split's shards, sorted by name; arguments as of `kinetics.load`.

    Returns:
        List of str, empty where there is none.

    Raises:
        FileNotFoundError: a file that was named, or one of a numbered set, is missing.
        ValueError: a folder with more than one set, each with all videos.
    """
    if files is not None:
        return shard_files.named(files, data_dir)  # a part of a set may be meant
    folder = shard_files.literal(shard_files.prefix(data_dir))
    patterns = [f"{folder}{name}*{SUFFIX}*" for name in SPLIT_NAMES[split]]
    ends = re.compile(rf"\{SUFFIX}(-\d+-of-\d+)?$")
    found = [path for path in shard_files.expand(patterns) if ends.search(path)]
    shard_files.check_one_set(found)
    return found


def index(paths):
    """Where records lie.

    Args:
        paths: list of str.

    Returns:
        int64 `[records, 3]`: number of the file in `paths`, number of the record in
        the file, and where it starts. A record that breaks off is the last of its
        file; the error comes when it is read.
    """
    with concurrent.futures.ThreadPoolExecutor(_LOOKS) as pool:
        starts = list(pool.map(_starts, paths))
    rows = [
        np.stack([np.full(len(own), file), np.arange(len(own)), own], axis=1)
        for file, own in enumerate(starts)
    ]
    return np.concatenate(rows).astype(np.int64)


def check_classes(paths, num_classes):
    """Refuses shards beside whose list of classes, `CLASSES`, has another number.

    Raises:
        ValueError
    """
    for path, names in _lists_of_classes(paths):
        if len(names) != num_classes:
            raise ValueError(
                "`num_classes` must be the number of classes. Received: "
                f"num_classes={num_classes}, {len(names)} in {path}"
            )


def check_names(paths, class_names):
    """Refuses shards beside whose `CLASSES` has other names, or in another order.

    Raises:
        ValueError
    """
    for path, names in _lists_of_classes(paths):
        if list(map(plain, names)) != list(map(plain, class_names)):
            raise ValueError(
                "`class_names` must be those of the records, whose labels are numbers. "
                f"Received: others than in {path}"
            )


def _lists_of_classes(paths):
    """List of (path, names) of the lists of classes beside shards."""
    found = []
    for folder in sorted({path.removesuffix(base_name(path)) for path in paths}):
        if tf.io.gfile.exists(folder + CLASSES):
            with tf.io.gfile.GFile(folder + CLASSES) as file:
                found.append((folder + CLASSES, file.read().splitlines()))
    return found


class Record:
    """One record.

    Attributes:
        name: str.
        label: int.
        times: float `[frames]`, seconds, sorted.

    Args:
        path: str.
        number: int, the record's in its file.
        start: int, where it starts.
        num_classes: int.
        frame_rate: frames a second where the record has no times; None is taken as 1.

    Raises:
        RecordError: a record that cannot be used.
    """

    def __init__(self, path, number, start, num_classes, frame_rate):
        self._place = path, number
        record = self._parse(start)
        context, lists = record.context.feature, record.feature_lists.feature_list
        labels = context[LABEL].int64_list.value if LABEL in context else ()
        if len(labels) != 1 or not 0 <= labels[0] < num_classes:
            rule = f"`{LABEL}` must be one number from 0 to {num_classes - 1}."
            raise self.error(LABEL, rule, f"{list(labels)}.")
        frames = lists[FRAMES].feature if FRAMES in lists else ()
        if not frames:
            rule = f"`{FRAMES}` must have at least one frame."
            raise self.error(FRAMES, rule, "none.")
        if any(len(frame.bytes_list.value) != 1 for frame in frames):
            rule = f"`{FRAMES}` must have one string in each frame."
            raise self.error(FRAMES, rule, "a frame without.")
        names = context[NAME].bytes_list.value if NAME in context else ()
        default = f"{base_name(path)}-{number}"
        self.name = names[0].decode(errors="replace") if names else default
        self.label = int(labels[0])
        self.times = self._times(lists, len(frames), frame_rate)
        self._frames = frames

    def picture(self, frame):
        """uint8 `[height, width, 3]` of a frame's number."""
        from PIL import Image

        octets = self._frames[frame].bytes_list.value[0]
        try:
            with Image.open(io.BytesIO(octets), formats=("JPEG", "PNG")) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            rule = f"`{FRAMES}` must hold JPEG images that are whole."
            said = f"frame {frame}, {type(error).__name__}: {error}."
            raise self.error(FRAMES, rule, said) from None

    def error(self, field, rule, received):
        """The `RecordError` of this record."""
        return RecordError(*self._place, field, f"{rule} Received: {received}")

    def _parse(self, start):
        path, number = self._place
        try:
            octets, _ = tf_record_random_reader(path).read(start)
        except (tf.errors.DataLossError, IndexError) as error:
            raise damage_by(error, path, number, self._takes_rest()) from None
        try:
            return tf.train.SequenceExample.FromString(octets)
        except DecodeError:
            rule = "`record` must be a SequenceExample."
            raise self.error("record", rule, "bytes that are none.") from None

    def _takes_rest(self):
        """Whether nothing tells where the records after this one start."""
        path, number = self._place
        if _told_starts(path) is not None:
            return False
        *_, (_, length) = itertools.islice(tfrecord_framing.walk(path), number + 1)
        return length is None

    def _times(self, lists, count, frame_rate):
        if TIMES not in lists:
            return np.arange(count) / (frame_rate or 1.0)
        stamps = [list(one.int64_list.value) for one in lists[TIMES].feature]
        stamps = np.array([s[0] for s in stamps if len(s) == 1], np.int64)
        if len(stamps) != count or (np.diff(stamps) < 0).any():
            rule = f"`{TIMES}` must have one number for each frame, growing."
            raise self.error(TIMES, rule, f"{len(stamps)} for {count} frames.")
        return stamps * _MICROSECONDS


def beside(path):
    """Path of the JSON file that tells of a shard."""
    return re.sub(rf"\{SUFFIX}((-\d+-of-\d+)?)$", r"\1.json", path)


def _starts(path):
    """int64 `[records]`"""
    told = _told_starts(path)
    if told is not None:
        return told
    return np.array([start for start, _ in tfrecord_framing.walk(path)], np.int64)


def _told_starts(path):
    """int64 `[records]` by the JSON file beside a shard; None without one that fits."""
    told = beside(path)
    if told != path and tf.io.gfile.exists(told):
        with tf.io.gfile.GFile(told) as file:
            found = json.load(file)
        if found["bytes"] == tf.io.gfile.stat(path).length:
            return np.array(found["starts"], np.int64)
    return None


def _octets(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
