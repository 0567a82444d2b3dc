"""Small pictures, encoded by Pillow, as trees of files and as records."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

CLASSES = ("n01440764", "n01443537", "n02110958")


def picture(seed=0, height=30, width=40, mode="RGB"):
    """A smooth Pillow image that only this seed has."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return image.convert(mode)


def encode(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels_of(encoded):
    """uint8 `[height, width, 3]`, by Pillow."""
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def write_tree(folder, counts=(4, 3, 6), classes=CLASSES, below="train"):
    """A folder of images for each class; returns {name: label}."""
    labels = {}
    for label, (name, count) in enumerate(zip(classes, counts)):
        (folder / below / name).mkdir(parents=True)
        for number in range(count):
            image = f"{name}/{name}_{number}.JPEG"
            encoded = encode(picture(100 * label + number, 30 + number))
            (folder / below / image).write_bytes(encoded)
            labels[image] = label
    return labels


def example(**values):
    """A `tf.train.Example`; "__" in names stands for "/"."""
    feature = {}
    for name, value in values.items():
        value = value if isinstance(value, list) else [value]
        if value and isinstance(value[0], bytes):
            made = tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
        elif value and isinstance(value[0], float):
            made = tf.train.Feature(float_list=tf.train.FloatList(value=value))
        else:
            made = tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        feature[name.replace("__", "/")] = made
    return tf.train.Example(features=tf.train.Features(feature=feature))


def converted(seed=0, label=1, **changes):
    """A record as the common converters write it."""
    values = {
        "image__encoded": encode(picture(seed)),
        "image__class__label": label,
        "image__format": b"JPEG",
        **changes,
    }
    return example(**{k: v for k, v in values.items() if v is not None})


def write_records(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            whole = isinstance(record, bytes)
            writer.write(record if whole else record.SerializeToString())
    return str(path)


def write_shards(folder, counts=(5, 2, 6), split="train"):
    """Shards of converted records, whose labels are the numbers of their shards."""
    return [
        write_records(
            folder / f"{split}-{shard:05d}-of-{len(counts):05d}",
            [converted(100 * shard + n, shard + 1) for n in range(count)],
        )
        for shard, count in enumerate(counts)
    ]
