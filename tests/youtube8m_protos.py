"""YouTube-8M records written and read through TensorFlow's protocol buffers.

Independent of the readers under test, which never use them for good records.
"""

import numpy as np
import tensorflow as tf

FEATURES = {"rgb": 12, "audio": 5}
CLASSES = 7


def feature(values):
    """`tf.train.Feature` of bytes, ints or floats."""
    if isinstance(values, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[values]))
    values = np.asarray(values)
    if values.dtype.kind == "f":
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values.astype(int)))


def video(name="v", labels=(1,), frames=4, features=None, **context):
    """A `SequenceExample`.

    Args:
        frames: int, or {feature: list of bytes, ints, …, one per frame}.
    """
    random = np.random.default_rng(sum(name.encode()) + len(name))
    features = FEATURES if features is None else features
    if isinstance(frames, int):
        frames = {
            n: [random.bytes(z) for _ in range(frames)] for n, z in features.items()
        }
    known = {"id": name.encode(), **context}
    if labels is not None:
        known["labels"] = np.array(labels, int)
    lists = {
        n: tf.train.FeatureList(
            feature=[
                one if isinstance(one, tf.train.Feature) else feature(one)
                for one in values
            ]
        )
        for n, values in frames.items()
    }
    return tf.train.SequenceExample(
        context=tf.train.Features(feature={k: feature(v) for k, v in known.items()}),
        feature_lists=tf.train.FeatureLists(feature_list=lists),
    )


def write(path, records):
    """Writes messages or bytes; returns the path as str."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for one in records:
            writer.write(one if isinstance(one, bytes) else one.SerializeToString())
    return str(path)


def write_shards(folder, split, counts, frames=lambda number: 1 + number % 6):
    """Shards of unlike videos, which have names such as `train0001-5`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for shard, count in enumerate(counts):
        stem = f"{split}{shard:04d}"
        records = [
            video(f"{stem}-{number}", [number % CLASSES], frames(number))
            for number in range(count)
        ]
        paths.append(write(folder / f"{stem}.tfrecord", records))
    return paths


def read(path):
    """{id: (float32 `[frames, width]`, set of labels)} of a file, by the definition."""
    found = {}
    for raw in tf.data.TFRecordDataset(path).as_numpy_iterator():
        record = tf.train.SequenceExample.FromString(raw)
        lists = record.feature_lists.feature_list
        columns = [
            [
                np.frombuffer(f.bytes_list.value[0], np.uint8)
                for f in lists[name].feature
            ]
            for name in ("rgb", "audio")
        ]
        octets = np.concatenate([np.stack(column) for column in columns], axis=1)
        context = record.context.feature
        labels = set(context["labels"].int64_list.value)
        found[context["id"].bytes_list.value[0]] = dequantised(octets), labels
    return found


def dequantised(octets):
    scale, bias = np.float32(4 / 255), np.float32(4 / 512 - 2)
    return octets.astype(np.float32) * scale + bias


def multi_hot(labels, classes=CLASSES):
    return np.array([float(c in labels) for c in range(classes)], np.float32)
