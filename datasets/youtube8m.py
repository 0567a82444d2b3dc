"""YouTube-8M (2018), video and frame level, and the segments of 2019, from TFRecords.

Abu-El-Haija et al. 2016, arXiv:1609.08675. A folder holds train*.tfrecord,
validate*.tfrecord and test*.tfrecord, or has a folder of such files per split, as the
official download has: `2/frame/train`, `2/video/train`, `3/frame/validate`.

    train = load("paper_train", data_dir, 512, random_frames=25, epochs=None, seed=1)
    evaluation = load("paper_eval", data_dir, 512)
    with clear_errors():
        model.fit(train, steps_per_epoch=1000, validation_data=evaluation)
"""

import tensorflow as tf

from datasets import (
    argument_checks,
    record_errors,
    record_order,
    shard_files,
    youtube8m_segments,
)
from datasets.record_errors import BadRecords, RecordError, clear_errors
from datasets.youtube8m_records import Form
from datasets.youtube8m_segments import UNRATED, rated_crossentropy
from datasets.youtube8m_source import Source

__all__ = [
    "UNRATED",
    "BadRecords",
    "RecordError",
    "clear_errors",
    "list_files",
    "load",
    "rated_crossentropy",
]

FEATURES = {"rgb": 1024, "audio": 128}
CLASSES = 3862
MAX_FRAMES = 300
SPLITS = ("train", "validate", "test", "paper_train", "paper_eval")
LEVELS = ("frame", "video", "segment")

_TRAINING = ("train", "paper_train")
# Where the official download puts a split, after the folder itself.
_FOLDERS = {
    "frame": ("", "{split}/", "frame/{split}/", "2/frame/{split}/"),
    "video": ("", "{split}/", "video/{split}/", "2/video/{split}/"),
    "segment": ("", "{split}/", "frame/{split}/", "3/frame/{split}/"),
}


def load(
    split,
    data_dir=None,
    batch_size=128,
    *,
    level="frame",
    files=None,
    features=None,
    num_classes=CLASSES,
    random_frames=None,
    max_frames=MAX_FRAMES,
    pad_to=None,
    drop_remainder=False,
    with_ids=False,
    seed=0,
    shuffle=None,
    shuffle_buffer=2048,
    cycle_length=8,
    epochs=1,
    start_epoch=0,
    start_batch=0,
    shard=(0, 1),
    verify_checksums=False,
    skip_bad_records=False,
    bad_records=None,
):
    """Batches of inputs and labels.

    Frames are dequantised to [-2, 2] and then padded with 0.0 to the longest video of
    the batch. Random frames are drawn with replacement before anything is decoded;
    which ones depends on seed, epoch, the file's name and the record's number only.

    The order follows from `seed` and the epoch, whatever TensorFlow's global seed is.
    A batch never reaches over the end of an epoch, so its last one may be smaller.

    Restarting: `start_epoch=e, start_batch=n` gives, bit for bit, what the
    uninterrupted iteration gives from batch n of epoch e on; n may lie beyond that
    epoch. Epochs before `start_epoch` cost nothing. Batches before `start_batch` are
    read, shuffled and dropped, without parsing labels or decoding frames: about the
    time of reading the files (at segment level, of parsing the records as well; where
    frames are drawn of local files, of reading the records' headers only).

    Workers: with at least as many files as workers each reads its own files, new ones
    in every epoch; with fewer files all read all of them and keep every count-th
    record. Each example comes to exactly one worker; how many it gets may differ.

    Args:
        split: `"train"`, `"validate"` or `"test"`; or the paper's (section 4.2)
            `"paper_train"`, train and nine tenths of the validate shards, and
            `"paper_eval"`, the shards whose number can be divided by ten.
        data_dir: folder or URL; may be left out with `files`.
        batch_size: int >= 1, of this worker.
        level: `"frame"`, `"video"` or `"segment"`, which wants files with ratings.
        files: path, glob or range like `"train{0000..3843}.tfrecord"`, or a list of
            such, below `data_dir` if that is given. http needs paths or ranges. The
            paper's split takes from them by name.
        features: {name: numbers per frame}, in the order of concatenation. Default:
            rgb 1024, audio 128. Video-level files have "mean_" before the names.
        num_classes: int >= 1, the size of the vocabulary.
        random_frames: int, frames drawn per video; None gives all frames.
        max_frames: int, what comes after is left out. For frame level alone.
        pad_to: int, at least `max_frames` or `random_frames`: a fixed number of
            frames, as TPUs want it (with `drop_remainder`).
        drop_remainder: bool, drop batches that are not full, once per epoch.
        with_ids: bool, elements get a third part, the videos' ids.
        seed: int >= 0.
        shuffle: bool. Default: whether `split` is for training.
        shuffle_buffer: int, records: up to 350 kB each, next to nothing where frames
            are drawn of local files.
        cycle_length: int >= 1, files that are read in turn.
        epochs: int, the number of the epoch to end before; None never ends.
        start_epoch, start_batch: int >= 0, see above.
        shard: (index, count) of this worker and of all workers.
        verify_checksums: bool. Drawn frames of local files are otherwise copied
            without reading the rest, so that their checksums cannot be verified.
            Everything else always verifies them.
        skip_bad_records: bool, leave out records that cannot be used, and what comes
            after a record of which not even the length is right, instead of failing.
            Checks every record in Python (some 2000 a second) and logs a summary after
            each epoch.
        bad_records: `BadRecords` to be filled then, for the caller to read.

    Returns:
        `tf.data.Dataset` of `(inputs, labels)`, with ids `(inputs, labels, ids)`.
        Labels are float32 multi-hot `[batch, classes]`, all 0 where a file has none.
        Ids are strings `[batch]`. Inputs at frame level are `{"frames": float32
        [batch, frames, width], "num_frames": int32 [batch]}` and at video level
        `{"features": float32 [batch, width]}`. At segment level an element is one
        labelled segment: 5 frames (`num_frames` fewer if the video ends before),
        and labels from 0 to 1 with `UNRATED`, -1, for classes that nobody rated it
        for; `rated_crossentropy` is the loss that leaves them out.

    Raises:
        FileNotFoundError: no such folder, or no file matches.
        ImportError: a file system that needs tensorflow-io where it cannot be had.
        ValueError: an argument out of its range, local files without any record, or
            no rated segments where they are asked for. While iterating, a bad record
            is an error of the runtime, which `clear_errors` turns into a `RecordError`.
    """
    features = dict(FEATURES if features is None else features)
    shuffle = split in _TRAINING if shuffle is None else shuffle
    _check_choices(split, level, features, shard, random_frames, max_frames, pad_to)
    argument_checks.check_epochs(epochs)
    argument_checks.check_ranges(
        batch_size=(batch_size, 1),
        num_classes=(num_classes, 1),
        max_frames=(max_frames, 1),
        seed=(seed, 0),
        shuffle_buffer=(shuffle_buffer, 0),
        cycle_length=(cycle_length, 1),
        start_epoch=(start_epoch, 0),
        start_batch=(start_batch, 0),
    )
    paths = list_files(split, data_dir, files=files, level=level)
    shard_files.check_not_empty(paths)
    record_errors.remember(paths)
    form = Form(
        level, features, num_classes, random_frames, max_frames, pad_to, with_ids, seed
    )
    bad = None
    if skip_bad_records:
        bad = BadRecords() if bad_records is None else bad_records
    if level == "segment":
        youtube8m_segments.check_rated(paths, bad)
    source = Source(paths, form, verify_checksums, bad, shard)
    batches = record_order.batches_by_epoch(
        paths,
        source.read,
        lambda records: source.to_batches(records, batch_size, drop_remainder),
        in_blocks=source.in_blocks,
        are_own=source.are_own,
        seed=seed,
        shuffle=shuffle,
        shuffle_buffer=shuffle_buffer,
        cycle_length=cycle_length,
        shard=shard,
        epochs=epochs,
        start_epoch=start_epoch,
    )
    if start_batch:
        batches = batches.skip(start_batch)
    batches = batches.map(
        source.decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def list_files(split, data_dir=None, *, files=None, level="frame"):
    """Paths of a split's shards, sorted by name; arguments as in `load`.

    Raises:
        FileNotFoundError: no such folder, no file matches, or one of a numbered set is
            missing.
        ValueError: neither is given, or a folder has more than one numbered set.
    """
    if data_dir is None and files is None:
        raise ValueError(
            "`data_dir` or `files` must say where the shards lie. Received: neither"
        )
    if split == "paper_train" or split == "paper_eval":
        wanted = split == "paper_eval"
        found = [
            path
            for path in _find("validate", data_dir, files, level)
            if shard_files.base_name(path).startswith("validate")
            and shard_files.in_paper_eval(path) == wanted
        ]
        if split == "paper_train":
            train = _find("train", data_dir, files, level)
            names = [shard_files.base_name(path) for path in train]
            train = [p for p, n in zip(train, names) if not n.startswith("validate")]
            # Without a training shard it would be a part of validate alone.
            found = train + found if train else []
    else:
        found = _find(split, data_dir, files, level)
    if not found:
        where = data_dir if files is None else files
        raise FileNotFoundError(
            f"`data_dir` or `files` must hold shards of {split!r}, such as "
            f"{split.removeprefix('paper_')}0000.tfrecord. Received: {where!r}, where "
            "no file matches"
        )
    return found


def _find(split, data_dir, files, level):
    if files is not None:
        return shard_files.named(files, data_dir)
    folder = shard_files.prefix(data_dir)
    shard_files.register_file_system(folder)
    if not shard_files.can_list(folder):
        raise ValueError(
            "`files` must be given over http, where no folder can be listed: "
            f"files='{split}{{0000..3843}}.tfrecord'. Received: data_dir={data_dir!r}"
        )
    if not tf.io.gfile.isdir(folder):
        raise FileNotFoundError(
            f"`data_dir` must be a folder that exists. Received: data_dir={data_dir!r}"
        )
    for below in _FOLDERS[level]:
        place = shard_files.literal(folder) + below.format(split=split)
        pattern = f"{place}{split}*.tfrecord"
        if found := shard_files.expand(pattern):
            shard_files.check_one_set(found)  # the download's own names have no count
            return found
    return []


def _check_choices(split, level, features, shard, random_frames, max_frames, pad_to):
    argument_checks.check_choices(split=(split, SPLITS), level=(level, LEVELS))
    if not features or any(size < 1 for size in features.values()):
        raise ValueError(
            "`features` must name at least one feature and its size, from 1. "
            f"Received: features={features}"
        )
    argument_checks.check_shard(shard)
    if level != "frame" and (random_frames is not None or pad_to is not None):
        raise ValueError(
            "`random_frames` and `pad_to` must be left out unless level is 'frame'. "
            f"Received: random_frames={random_frames}, pad_to={pad_to}, level={level!r}"
        )
    if random_frames is not None and random_frames < 1:
        raise ValueError(
            "`random_frames` must be at least 1, or None for all frames. "
            f"Received: random_frames={random_frames}"
        )
    if pad_to is not None and pad_to < (random_frames or max_frames):
        raise ValueError(
            f"`pad_to` must be at least {random_frames or max_frames}, so that all "
            f"frames fit. Received: pad_to={pad_to}"
        )
