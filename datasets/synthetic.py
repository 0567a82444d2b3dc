"""Made-up shards in exactly YouTube-8M's format, from a seed, for tests and previews.

Every class has a direction in feature space, and belongs to one of some topics. A video
is about one topic, has a few of its classes as labels, the frequent ones more often,
and shows the sum of their directions in all frames, under the noise of its scenes and
frames. So a linear model on mean features already tells a lot.
"""

import os
import zlib

import numpy as np
import tensorflow as tf

from datasets import wire_format, youtube8m
from datasets.youtube8m_records import (
    DEQUANTISE_BIAS,
    DEQUANTISE_SCALE,
    SEGMENT_FRAMES,
    mean_name,
)

_MAX_LABELS = 4
_SCENE_FRAMES = 30
_LEVELS = 255 / 4  # quantisation steps per unit
_MIDDLE = 128  # what 0.0 is quantised to
_FRAME_NOISE = 20  # steps; uniform in both directions
_SCENE_NOISE = 0.15
_SIGNAL = 0.3  # of a class' direction, per feature
_SEGMENTS = 5  # rated per video, at most


def write_youtube8m(
    folder,
    split,
    shards,
    examples_per_shard,
    seed=0,
    *,
    level="frame",
    features=None,
    num_classes=youtube8m.CLASSES,
    max_frames=youtube8m.MAX_FRAMES,
    topics=20,
):
    """Writes train0000.tfrecord and so on. Same arguments, same bytes.

    Three in ten videos have `max_frames` frames, one in ten very few, the others
    anything between. Splits of the same seed share classes and topics, and no video.

    Args:
        folder: str, made where it is missing.
        split: str, how the names start: `"train"`, `"validate"` or `"test"`. The last
            has no labels.
        shards, examples_per_shard: int >= 1.
        seed: int >= 0.
        level: `"frame"`, `"video"` or `"segment"`.
        features: {name: numbers per frame}. Default: rgb 1024, audio 128.
        num_classes: int >= 1.
        max_frames: int >= 1.
        topics: int >= 1; at most as many as classes are used.

    Returns:
        List of str, the paths.
    """
    if level not in youtube8m.LEVELS:
        raise ValueError(
            f"`level` must be one of {youtube8m.LEVELS}. Received: level={level!r}"
        )
    for name, value in (
        ("shards", shards),
        ("examples_per_shard", examples_per_shard),
        ("num_classes", num_classes),
        ("max_frames", max_frames),
        ("topics", topics),
    ):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
    features = dict(youtube8m.FEATURES if features is None else features)
    world = _World(seed, features, num_classes, topics)
    tf.io.gfile.makedirs(str(folder))
    paths = []
    for shard in range(shards):
        path = os.path.join(str(folder), f"{split}{shard:04d}.tfrecord")
        random = np.random.default_rng([seed, zlib.crc32(split.encode()), shard])
        with tf.io.TFRecordWriter(path) as writer:
            for number in range(examples_per_shard):
                name = f"{split[:2]}{shard:04d}{number:04d}".encode()
                writer.write(world.record(random, name, level, split, max_frames))
        paths.append(path)
    return paths


class _World:
    """Classes, their directions and topics."""

    def __init__(self, seed, features, num_classes, topics):
        random = np.random.default_rng([seed, num_classes])
        self._features, self._classes = features, num_classes
        width = sum(features.values())
        self._directions = random.standard_normal((num_classes, width), np.float32)
        self._by_topic = np.array_split(
            random.permutation(num_classes), min(topics, num_classes)
        )

    def record(self, random, name, level, split, max_frames):
        """bytes of one record."""
        labels = self._labels(random)
        frames = self._frames(random, labels, _count(random, max_frames))
        context = {"id": _bytes(name)}
        if split != "test":
            context["labels"] = _ints(labels)
        if level == "video":
            return wire_format.field(1, _features({**context, **self._means(frames)}))
        if level == "segment" and split != "test":
            context.update(self._ratings(random, labels, len(frames)))
        return wire_format.field(
            wire_format.CONTEXT, _features(context)
        ) + wire_format.field(wire_format.FEATURE_LISTS, self._lists(frames))

    def _labels(self, random):
        # Frequent topics and classes first, as 1 / rank.
        topic = self._by_topic[_zipf(random, len(self._by_topic))]
        count = 1 + random.integers(_MAX_LABELS)
        chosen = [topic[_zipf(random, len(topic))] for _ in range(count)]
        return sorted(set(map(int, chosen)))

    def _frames(self, random, labels, count):
        """uint8 `[count, width]`"""
        width = self._directions.shape[1]
        scenes = -(-count // _SCENE_FRAMES)
        shown = _SIGNAL * self._directions[labels].sum(axis=0)
        noise = random.standard_normal((scenes, width), np.float32)
        steps = np.rint((shown + _SCENE_NOISE * noise) * _LEVELS).astype(np.int16)
        frames = np.repeat(steps + _MIDDLE, _SCENE_FRAMES, axis=0)[:count]
        of_frames = random.integers(
            -_FRAME_NOISE, _FRAME_NOISE + 1, frames.shape, np.int8
        )
        return np.clip(frames + of_frames, 0, 255).astype(np.uint8)

    def _means(self, frames):
        values = frames.mean(axis=0) * DEQUANTISE_SCALE + DEQUANTISE_BIAS
        found, first = {}, 0
        for name, size in self._features.items():
            found[mean_name(name)] = _floats(values[first : first + size])
            first += size
        return found

    def _lists(self, frames):
        found, first = b"", 0
        for name, size in self._features.items():
            prefix = np.frombuffer(wire_format.frame_prefix(size), np.uint8)
            before = np.broadcast_to(prefix, (len(frames), len(prefix)))
            table = np.concatenate([before, frames[:, first : first + size]], axis=1)
            found += wire_format.named(name, table.tobytes())
            first += size
        return found

    def _ratings(self, random, labels, frames):
        """Some segments: one of the video's labels each, or another class, rated 0."""
        last = frames // SEGMENT_FRAMES
        count = min(_SEGMENTS, last)
        starts = np.sort(random.permutation(last)[:count]) * SEGMENT_FRAMES
        rated, scores = [], []
        for _ in range(count):
            right = random.random() < 0.6
            other = int(random.integers(self._classes))
            rated.append(labels[random.integers(len(labels))] if right else other)
            scores.append(float(rated[-1] in labels))
        return {
            "segment_labels": _ints(rated),
            "segment_start_times": _ints(starts),
            "segment_end_times": _ints(starts + SEGMENT_FRAMES),
            "segment_scores": _floats(scores),
        }


def _count(random, max_frames):
    kind = random.random()
    if kind < 0.3:
        return max_frames
    short = min(15, max_frames)
    low, high = (1, short) if kind < 0.4 else (short, max_frames)
    return int(random.integers(low, high + 1))


def _zipf(random, size):
    """int from 0 to below `size`, of probability about 1 / (rank + 1)."""
    return min(int((size + 1) ** random.random()) - 1, size - 1)


def _features(features):
    return b"".join(wire_format.named(name, value) for name, value in features.items())


def _bytes(value):
    return wire_format.field(wire_format.BYTES_LIST, wire_format.field(1, value))


def _ints(values):
    packed = b"".join(wire_format.varint(int(value)) for value in values)
    return wire_format.field(wire_format.INT64_LIST, wire_format.field(1, packed))


def _floats(values):
    packed = np.asarray(values, "<f4").tobytes()
    return wire_format.field(wire_format.FLOAT_LIST, wire_format.field(1, packed))
