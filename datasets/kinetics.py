"""Kinetics (Kay et al. 2017, arXiv:1705.06950) and other sets of videos with classes.

Clips come from video files (mp4, mkv, avi, webm, mov), which a CSV or folders of
classes name, or from TFRecords of JPEG frames, which recipes/convert_kinetics.py makes
of them.

    train = load("train", data_dir, 16, epochs=None, seed=1)
    evaluation = load("validate", data_dir, 16, temporal_views=10, numbered=True)
    with clear_errors():
        model.fit(train, steps_per_epoch=1000)
"""

import tensorflow as tf

from datasets import kinetics_files, kinetics_records, kinetics_sources, record_errors
from datasets.argument_checks import (
    check_choices,
    check_epochs,
    check_ranges,
    check_shard,
)
from datasets.kinetics_batches import ClipBatches
from datasets.kinetics_clips import Form
from datasets.record_errors import BadRecords, RecordError, clear_errors

__all__ = ["BadRecords", "RecordError", "clear_errors", "load"]

CLASSES = 400
SPLITS = tuple(kinetics_files.SPLIT_NAMES)
# The factor and the offset that each makes of grey levels; None leaves them as bytes.
PIXELS = {"symmetric": (2 / 255, -1.0), "unit": (1 / 255, 0.0), "bytes": None}


def load(
    split,
    data_dir=None,
    batch_size=16,
    *,
    annotations=None,
    files=None,
    class_names=None,
    num_classes=CLASSES,
    frames=64,
    stride=1,
    frame_rate=25.0,
    crop=224,
    short_sides=(256, 320),
    temporal_views=1,
    spatial_views=1,
    pixels="symmetric",
    numbered=False,
    with_ids=False,
    seed=0,
    augment=None,
    shuffle=None,
    epochs=1,
    start_epoch=0,
    start_batch=0,
    shard=(0, 1),
    drop_remainder=False,
    skip_bad_records=False,
    use_damaged=False,
    bad_records=None,
    synthetic=0,
):
    """Batches of clips and labels.

    Frames are taken at equal distances in time, `stride / frame_rate` seconds, the one
    shown nearest to each moment, whatever rate the video has. A clip starts anywhere in
    the video (`augment`) or lies in its middle; a video that is too short is looped. It
    is cut out of the frames after their short side was resized: at random, mirrored in
    half of the cases, the same for all frames; or from the middle.

    Views: a video gives `temporal_views * spatial_views` clips, one after the other, at
    equal distances from its beginning to its end and along the long side. Each is an
    example; with `numbered` the predictions of one video can be averaged. A batch may
    hold some views of a video, and the next batch the others.

    The order follows from `seed` and the epoch, what is drawn of a video from these and
    its name, whatever TensorFlow's global seed is. A batch never reaches over the end
    of an epoch, so its last one may be smaller.

    Restarting: `start_epoch=e, start_batch=n` gives, bit for bit, what the
    uninterrupted iteration gives from batch n of epoch e on; n may lie beyond that
    epoch. What is passed over costs nothing, unless bad records are skipped: then the
    batches before it are read and dropped.

    Workers: in the order of each epoch, every count-th video is one worker's.

    Args:
        split: `"train"`, `"validate"` or `"test"`.
        data_dir: folder in which are looked for, in this order: TFRecords
            `train*.tfrecord`; the table train.csv and its videos; videos as
            `train/<class>/<name>.mp4`, where no name is in two classes. In place of
            "validate" names may have "val" or "validation". Videos must be on a local
            disk.
        batch_size: int >= 1, clips, of this worker.
        annotations: CSV of the columns path (below `data_dir`, else beside the CSV) and
            label; or of Kinetics' own label, youtube_id, time_start, time_end: then
            `<youtube_id>_000010_000020.mp4` may lie at any depth below `data_dir`, or
            below its folder of the split. Of a column split, only this split's lines.
        files: TFRecords by path, glob or range, or a list of such, below `data_dir`.
        class_names: list of str, or a text file of one a line: the classes in their
            order. Default: those of the CSV or of the folders, sorted.
        num_classes: int >= 1, how many there must be.
        frames: int >= 1, of a clip.
        stride: int >= 1, moments from one frame to the next.
        frame_rate: moments a second; None takes each video's own mean rate.
        crop: int, height and width of a clip, in pixels.
        short_sides: (low, high), from `crop`: the short side that frames are resized to
            before they are cut, drawn for each clip; low without `augment`.
        temporal_views, spatial_views: int >= 1, see above; 1 with `augment`.
        pixels: `"symmetric"`, from -1 to 1; `"unit"`, from 0 to 1; or `"bytes"`, uint8.
        numbered: bool, give a dict of the `"clips"` and, as `"number"`, the place in
            the unshuffled order of the video that each is of, int64 `[batch]`.
        with_ids: bool, elements get a third part, the names of the videos.
        seed: int >= 0.
        augment: bool, draw clips at random. Default: whether `split` is `"train"`.
        shuffle: bool. Default: whether `split` is `"train"`.
        epochs: int, the number of the epoch to end before; None never ends.
        start_epoch, start_batch: int >= 0, see above.
        shard: (index, count) of this worker and of all workers.
        drop_remainder: bool, drop an epoch's last batch if it is not full: all shapes
            are then static.
        skip_bad_records: bool, leave out what cannot be read, videos that are not there
            among it, instead of failing; a summary is logged after each epoch. In a
            TFRecord without its JSON file, that is also what comes after a record of
            which not even the length is right.
        use_damaged: bool, take of a damaged video what comes before its damage, and log
            that, instead of failing. A video is damaged if it breaks off or if FFmpeg
            finds a mistake anywhere in it.
        bad_records: `BadRecords` to be filled, for the caller to read; its `used` has
            the damaged videos of which a part was used.
        synthetic: int, make up so many videos for training, and a fifth of it, at least
            one per class, for each other split: the same `element_spec`.

    Returns:
        `tf.data.Dataset` of `(clips, labels)`, with ids `(clips, labels, ids)`: float32
        (or uint8) `[batch, frames, crop, crop, 3]`, int64 `[batch]`, strings `[batch]`.

    Raises:
        FileNotFoundError: nothing to read, or videos or shards are missing.
        ImportError: PyAV is missing, which reads videos.
        ValueError: an argument out of its range, classes that do not fit, or two
            videos of one name. While iterating, what cannot be read is an error of the
            runtime, which `clear_errors` turns into a `RecordError`.
    """
    is_train = split == "train"
    augment = is_train if augment is None else augment
    form = Form(
        *(frames, stride, frame_rate, crop, tuple(short_sides)),
        *(temporal_views, spatial_views, augment, seed),
    )
    _check(split, form, pixels, shard)
    check_epochs(epochs)
    check_ranges(
        batch_size=(batch_size, 1),
        num_classes=(num_classes, 1),
        seed=(seed, 0),
        start_epoch=(start_epoch, 0),
        start_batch=(start_batch, 0),
        synthetic=(synthetic, 0),
    )
    bad = BadRecords() if bad_records is None else bad_records
    if synthetic:
        count = synthetic if is_train else max(num_classes, synthetic // 5)
        seconds = 1.5 * frames * stride / (frame_rate or 25.0)
        source = kinetics_sources.SyntheticSource(count, num_classes, split, seconds)
    elif paths := _shards(split, data_dir, annotations, files):
        record_errors.remember(paths)
        if class_names is not None:
            names = kinetics_files.read_names(class_names)
            kinetics_records.check_names(paths, names)
        source = kinetics_sources.RecordSource(paths, num_classes, frame_rate)
    else:
        listing = kinetics_files.list_videos(
            *(split, data_dir),
            annotations=annotations,
            class_names=class_names,
            num_classes=num_classes,
        )
        _report_missing(listing, bad, skip_bad_records)
        source = kinetics_sources.VideoSource(listing, use_damaged)
    batches = ClipBatches(source, form, bad, skip_bad_records)
    dataset = batches.dataset(
        batch_size,
        is_train if shuffle is None else shuffle,
        shard,
        epochs,
        start_epoch,
        start_batch,
        drop_remainder,
    )
    return dataset.map(
        lambda *parts: _element(*parts, PIXELS[pixels], numbered, with_ids),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    ).prefetch(1)  # a batch of 16 clips has 600 MB


def _element(clips, labels, names, numbers, scale, numbered, with_ids):
    if scale is not None:
        factor, offset = scale
        clips = tf.cast(clips, tf.float32) * factor + offset
    inputs = {"clips": clips, "number": numbers} if numbered else clips
    return (inputs, labels, names) if with_ids else (inputs, labels)


def _shards(split, data_dir, annotations, files):
    """List of TFRecords, empty where there are videos."""
    if annotations is not None:
        if files is not None:
            raise ValueError(
                "`annotations` must be left out where `files` names TFRecords. "
                f"Received: annotations={str(annotations)!r}, files={files!r}"
            )
        return []
    if data_dir is None and files is None:
        raise ValueError(
            "`data_dir`, `annotations` or `files` must say where the videos are. "
            "Received: none of them"
        )
    return kinetics_records.list_shards(split, data_dir, files)


def _report_missing(listing, bad, skip):
    missing = listing.missing
    if missing and not skip:
        raise FileNotFoundError(
            "`data_dir` must hold all videos of the list, unless `skip_bad_records` "
            f"leaves them out. Received: {len(missing)} of "
            f"{len(missing) + len(listing.paths)} are not there, such as "
            f"{missing[0].path}"
        )
    for error in missing:
        bad.add(error)


def _check(split, form, pixels, shard):
    check_choices(split=(split, SPLITS), pixels=(pixels, tuple(PIXELS)))
    for name in ("frames", "stride", "crop", "temporal_views", "spatial_views"):
        check_ranges(**{name: (getattr(form, name), 1)})
    if form.frame_rate is not None and not form.frame_rate > 0:
        raise ValueError(
            "`frame_rate` must be above 0, or None for each video's own. "
            f"Received: frame_rate={form.frame_rate}"
        )
    low, high = form.short_sides
    if not form.crop <= low <= high:
        raise ValueError(
            f"`short_sides` must be (low, high) from `crop`, {form.crop}. "
            f"Received: short_sides={form.short_sides}"
        )
    if form.augment and form.views > 1:
        raise ValueError(
            "`temporal_views` and `spatial_views` must be 1 with `augment`, where "
            f"clips are drawn. Received: temporal_views={form.temporal_views}, "
            f"spatial_views={form.spatial_views}"
        )
    check_shard(shard)
