"""Made-up shards in the format of the common ImageNet converters, from a seed.

Images have the patterns of datasets/synthetic_images.py, which a linear model on small
pixels tells apart, enlarged to photographs' sizes, and enough noise for JPEGs of usual
length.
"""

import os

import numpy as np
import tensorflow as tf

from datasets import synthetic_images

_BLOCK = 25  # pixels, along either side, of what is one pixel of the pattern
_GRAIN = 13.0  # grey levels, standard deviation: 500 x 375 pixels make some 100 kB


def write_imagenet(
    folder,
    split,
    shards,
    examples_per_shard,
    seed=0,
    *,
    num_classes=10,
    blocks=(15, 20),
    **patterns,
):
    """Writes train-00000-of-00004 and so on. Same arguments, same bytes.

    Args:
        folder: str, made where it is missing.
        split: `"train"` or `"validation"`. Splits of the same seed share the patterns
            of the classes, and no image.
        shards, examples_per_shard, num_classes: int >= 1.
        seed: int >= 0.
        blocks: (rows, columns) of 25 x 25 pixels; every second image is on its side.
        **patterns: `contrast` and `noise` of `synthetic_images.make`.

    Returns:
        List of str, the paths.
    """
    os.makedirs(folder, exist_ok=True)
    part = "train" if split == "train" else "test"
    total = shards * examples_per_shard
    shape = (max(blocks), max(blocks), 3)
    small, labels = synthetic_images.make(
        shape, num_classes, total, part=part, seed=seed, **patterns
    )
    random = np.random.default_rng([seed, total, part == "train"])
    paths = []
    for shard in range(shards):
        name = f"{split}-{shard:05d}-of-{shards:05d}"
        paths.append(os.path.join(str(folder), name))
        with tf.io.TFRecordWriter(paths[-1]) as writer:
            for number in range(examples_per_shard):
                index = shard * examples_per_shard + number
                rows, columns = blocks if index % 2 else blocks[::-1]
                pixels = _photograph(small[index, :rows, :columns], random)
                encoded = tf.io.encode_jpeg(pixels, quality=92).numpy()
                writer.write(example(encoded, labels[index], f"{name}_{number}.JPEG"))
    return paths


def example(encoded, label, name):
    """A serialized record as TF-Slim's and the TPU's converters write it.

    Args:
        encoded: bytes of a JPEG.
        label: int, from 0; it is stored from 1.
        name: str, the file's.
    """
    values = {
        "image/encoded": encoded,
        "image/format": b"JPEG",
        "image/filename": name.encode(),
        "image/class/label": int(label) + 1,
        "image/class/synset": f"n{int(label):08d}".encode(),
    }
    feature = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, bytes)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        for key, value in values.items()
    }
    return tf.train.Example(
        features=tf.train.Features(feature=feature)
    ).SerializeToString(deterministic=True)


def _photograph(blocks, random):
    """uint8 `[height, width, 3]` of the pattern, smooth and with grain."""
    size = [_BLOCK * side for side in blocks.shape[:2]]
    pixels = tf.image.resize(blocks.astype(np.float32), size, "bicubic").numpy()
    pixels += random.normal(0.0, _GRAIN, pixels.shape)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
