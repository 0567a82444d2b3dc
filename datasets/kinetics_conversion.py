"""Videos to shards of TFRecords: the work of recipes/convert_kinetics.py.

The same videos and settings give the same bytes. A shard and the JSON file beside it
(datasets/kinetics_records.py) appear when they are whole, so that a conversion that was
killed goes on with the first shard that is missing.
"""

import collections
import dataclasses
import io
import json
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from datasets import (
    kinetics_clips,
    kinetics_files,
    kinetics_records,
    kinetics_videos,
    tfrecord_framing,
)
from datasets.record_errors import RecordError


@dataclasses.dataclass(frozen=True)
class FrameForm:
    """What is kept of a video.

    Attributes:
        short_side: int, pixels that a frame's short side has at most; smaller frames
            stay as they are.
        frame_rate: frames a second, at equal distances; None keeps all as they are.
        quality: int from 1 to 95, of the JPEGs.
        use_damaged: bool, keep of a damaged video what comes before its damage.
    """

    short_side: int = 320
    frame_rate: float | None = 25.0
    quality: int = 90
    use_damaged: bool = False


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file and the videos that go into it.

    Attributes:
        path: `Path`.
        videos: list of (path, label, class name or None).
    """

    path: Path
    videos: list

    @property
    def told(self):
        """`Path` of the JSON file beside it."""
        return Path(kinetics_records.beside(str(self.path)))

    @property
    def is_done(self):
        return self.path.exists() and self.told.exists()


def plan_shards(listing, split, folder, shard_size, seed):
    """Shards of about equal size, over which the videos are spread at random.

    Args:
        listing: `kinetics_files.Listing`.
        split: str.
        folder: `Path`.
        shard_size: int, videos that a shard has at most.
        seed: int.

    Returns:
        List of `Shard`.
    """
    videos = len(listing.paths)
    order = np.random.default_rng(seed).permutation(videos)
    count = -(-videos // shard_size)
    names = listing.class_names
    shards = []
    for number, part in enumerate(np.array_split(order, count)):
        name = f"{split}-{number:05d}-of-{count:05d}{kinetics_records.SUFFIX}"
        rows = [(listing.paths[one], int(listing.labels[one])) for one in part]
        shards.append(
            Shard(
                folder / name,
                [(path, label, names and names[label]) for path, label in rows],
            )
        )
    return shards


def convert_shard(shard, form, pool, ahead=4, advance=lambda: None):
    """Writes a shard, and beside it what could not be read.

    Args:
        shard: `Shard`.
        form: `FrameForm`.
        pool: `concurrent.futures.Executor` of threads.
        ahead: int, videos that wait in memory to be written, some 4 MB each.
        advance: called without arguments after each video.

    Returns:
        dict, what its JSON file holds: `"starts"` and `"bytes"` of the records, and
        `"left_out"` and `"used"`, lists of `{"path", "reason"}`.
    """
    told = {"starts": [], "bytes": 0, "left_out": [], "used": []}
    unfinished = _unfinished(shard.path)
    with tf.io.TFRecordWriter(str(unfinished)) as writer:
        for video, result in _in_order(shard.videos, form, pool, ahead):
            if isinstance(result, RecordError):
                told["left_out"].append(_report(video, result))
            else:
                octets, damage = result
                writer.write(octets)
                told["starts"].append(told["bytes"])
                told["bytes"] += len(octets) + tfrecord_framing.FRAMING
                if damage is not None:
                    told["used"].append(_report(video, damage))
            advance()
    _unfinished(shard.told).write_text(json.dumps(told), encoding="utf-8")
    os.replace(_unfinished(shard.told), shard.told)
    os.replace(unfinished, shard.path)
    return told


def convert_video(path, label, class_name, form):
    """A video's record.

    Returns:
        bytes, and the `RecordError` of a damaged video that was kept, whole or in part.

    Raises:
        RecordError: it cannot be read.
    """
    plan, cuts, damage = kinetics_videos.read(
        path, lambda times: _Plan(times, form), form.use_damaged
    )
    frames = [cuts[place] for place in plan.index]
    name = kinetics_files.video_name(path)
    octets = kinetics_records.serialize(name, label, class_name, plan.times, frames)
    return octets, damage


class _Plan:
    """Which frames of a video are kept, and how; see `kinetics_videos.read`.

    Attributes:
        times: float `[frames]`, seconds from the first frame.
        index: int `[frames]`, their numbers in `wanted`.
    """

    def __init__(self, times, form):
        self._form, grid = form, times
        if form.frame_rate is not None:
            grid = kinetics_clips.frame_grid(times, form.frame_rate)
        nearest = times[kinetics_clips.nearest(times, grid)]
        self.times = grid - grid[0]
        self.wanted, self.index = np.unique(nearest, return_inverse=True)

    def cut(self, picture):
        """Bytes of a JPEG."""
        from PIL import Image

        image = Image.fromarray(picture)
        scale = self._form.short_side / min(image.size)
        if scale < 1:
            size = [max(1, round(side * scale)) for side in image.size]
            image = image.resize(size, Image.Resampling.BILINEAR)
        octets = io.BytesIO()
        image.save(octets, "JPEG", quality=self._form.quality)
        return octets.getvalue()


def _in_order(videos, form, pool, ahead):
    """Yields each video with its result, (bytes, damage) or a `RecordError`."""

    def convert(video):
        try:
            return convert_video(*video, form)
        except RecordError as error:
            return error

    waiting = collections.deque()
    for video in videos:
        waiting.append((video, pool.submit(convert, video)))
        if len(waiting) > ahead:
            video, future = waiting.popleft()
            yield video, future.result()
    for video, future in waiting:
        yield video, future.result()


def _report(video, error):
    return {"path": video[0], "reason": str(error)}


def _unfinished(path):
    return path.with_name(f".{path.name}.unfinished")
