"""ImageNet (ILSVRC 2012): TFRecord shards, TensorFlow Datasets, or images as files.

Russakovsky et al. 2015, arXiv:1409.0575: 1,281,167 training and 50,000 validation
images of 1000 classes. Other sets of images of one class each can be read as well.

    train = load("train", data_dir, 512, epochs=None, seed=1, drop_remainder=True)
    evaluation = load("validation", data_dir, 512)
    with clear_errors():
        model.fit(train, steps_per_epoch=2502, validation_data=evaluation)

Workers of `tf.distribute` read their own shares:

    strategy.distribute_datasets_from_function(lambda context: load(
        …, context.get_per_replica_batch_size(global_batch_size),
        shard=(context.input_pipeline_id, context.num_input_pipelines)))
"""

import dataclasses
import os

import tensorflow as tf

from datasets import (
    argument_checks,
    imagenet_crops,
    imagenet_decoder,
    imagenet_folders,
    imagenet_records,
    shard_files,
)
from datasets.imagenet_colours import Colours
from datasets.imagenet_source import FileSource, RecordSource
from datasets.record_errors import BadRecords, RecordError, clear_errors

__all__ = ["BadRecords", "Colours", "RecordError", "clear_errors", "load"]

CLASSES = 1000
SPLITS = ("train", "validation")
SOURCES = ("records", "files", "tfds")
WINDOWS = ("scaled", "shifted")

# (shift, divisor) of the channels red, green and blue; those of "standardised" are the
# mean and standard deviation over training images that all published models use.
PIXELS = {
    "standardised": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "centred": ((123.675, 116.28, 103.53), (1.0, 1.0, 1.0)),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
}


def load(
    split,
    data_dir=None,
    batch_size=128,
    *,
    source=None,
    files=None,
    tfds_name="imagenet2012",
    image_list=None,
    class_names=None,
    num_classes=CLASSES,
    label_offset=None,
    image_size=224,
    pixels="standardised",
    augment=None,
    colours=Colours(),  # noqa: B008  (frozen)
    windows="scaled",
    share=imagenet_crops.CENTRE_SHARE,
    antialias=False,
    drop_remainder=False,
    numbered=False,
    seed=0,
    shuffle=None,
    shuffle_buffer=2048,
    cycle_length=8,
    epochs=1,
    start_epoch=0,
    start_batch=0,
    shard=(0, 1),
    skip_bad_records=False,
    bad_records=None,
):
    """Batches of images and labels.

    Training images are windows of random size, aspect ratio and place
    (`imagenet_crops.random_window`), mirrored or not, with changed colours. Evaluation
    images are the square in the middle. Only the window is decoded, and then resized
    bilinearly.

    Order, windows and colours follow from `seed`, the epoch, the file's name and the
    record's number, whatever TensorFlow's global seed is. A batch never reaches over
    the end of an epoch, so its last one may be smaller. Files are shuffled as a whole,
    records in a buffer.

    Restarting: `start_epoch=e, start_batch=n` gives, bit for bit, what the
    uninterrupted iteration gives from batch n of epoch e on; n may lie beyond that
    epoch. What is passed over costs nothing where images are files; batches of records
    are read and dropped, without decoding.

    Workers: images as files are dealt out in turn. Of shards, with at least as many
    as workers, each worker reads its own, new ones in every epoch; with fewer all read
    all of them and keep every count-th record. Each image comes to exactly one worker;
    how many it gets may differ.

    Args:
        split: `"train"` or `"validation"`.
        data_dir: folder or URL, with shards as in `imagenet_records` or files as in
            `imagenet_folders`; for TensorFlow Datasets its own, or None.
        batch_size: int >= 1, of this worker.
        source: `"records"`, `"files"`, or `"tfds"` for what TensorFlow Datasets has
            prepared. Default: records or files, whichever `data_dir` holds.
        files: shards to read: path, glob or range like
            `"train-{00000..01023}-of-01024"`, or a list of such, below `data_dir` if
            that is given.
        tfds_name: str, `"name"` or `"name:version"`.
        image_list, class_names: for images as files, see
            `imagenet_folders.list_images`.
        num_classes: int >= 1. A background class does not count.
        label_offset: int, the number that the first class has where it is stored.
            Default: 1 in records of the common converters, which keep 0 for a
            background class, otherwise 0. A label that does not fit is an error.
        image_size: int >= 1, height and width of the images returned.
        pixels: one of `PIXELS`: `"standardised"`: each channel with mean 0 and
            standard deviation 1, what models are trained on here; `"centred"`: grey
            levels minus the channel's mean; `"unit"`: 0 to 1.
        augment: bool, random windows, mirroring and colours. Default: whether `split`
            is `"train"`.
        colours: `Colours`, or None to leave colours alone.
        windows: `"scaled"`, in training of random size and aspect ratio, in evaluation
            a square; or `"shifted"`, always a share of either side, as Caffe cuts
            (`imagenet_crops.shifted_window`).
        share: float in (0, 1], side of the square that evaluation takes by the image's
            short side, or with `"shifted"` sides of all windows by the image's. The
            default is 224 pixels of 256.
        antialias: bool, resize smoothly, as Pillow does: 1 to 2 ms an image.
        drop_remainder: bool, drop batches that are not full, once per epoch.
        numbered: bool, give a dict of `"images"` and `"number"`, int64 `[batch]`, an
            image's own number in every epoch, in place of the images.
        seed: int >= 0.
        shuffle: bool. Default: whether `split` is `"train"`.
        shuffle_buffer: int, records of some 110 kB each.
        cycle_length: int >= 1, shards that are read in turn.
        epochs: int, the number of the epoch to end before; None never ends.
        start_epoch, start_batch: int >= 0, see above.
        shard: (index, count) of this worker and of all workers.
        skip_bad_records: bool, leave out images that cannot be used, and what comes
            after a record of which not even the length is right, instead of failing.
            Decodes all of every image beforehand, and logs a summary after each epoch.
            A label that does not fit ends the run nevertheless, as all of them may be
            counted in another way. Of a JPEG whose middle is damaged TensorFlow makes
            an image without a word: neither way notices that.
        bad_records: `BadRecords` to be filled then, for the caller to read.

    Returns:
        `tf.data.Dataset` of `(images, labels)`: float32 `[batch, image_size,
        image_size, 3]`, RGB, and int64 `[batch]` from 0.

    Raises:
        FileNotFoundError: no such folder, shards that are missing, or images of a list
            that are missing.
        ImportError: a package is missing.
        ValueError: an argument out of its range, or files that break a rule. While
            iterating, a bad image is an error of the runtime, which `clear_errors`
            turns into a `RecordError` that names it.
    """
    argument_checks.check_choices(
        split=(split, SPLITS), pixels=(pixels, (*PIXELS,)), windows=(windows, WINDOWS)
    )
    argument_checks.check_epochs(epochs)
    argument_checks.check_ranges(
        batch_size=(batch_size, 1),
        num_classes=(num_classes, 1),
        image_size=(image_size, 1),
        seed=(seed, 0),
        shuffle_buffer=(shuffle_buffer, 0),
        cycle_length=(cycle_length, 1),
        start_epoch=(start_epoch, 0),
        start_batch=(start_batch, 0),
    )
    argument_checks.check_shard(shard)
    if not 0 < share <= 1:
        raise ValueError(f"`share` must be in (0, 1]. Received: share={share}")
    augment = split == "train" if augment is None else augment
    bad = None
    if skip_bad_records:
        bad = BadRecords() if bad_records is None else bad_records
    if data_dir is not None:
        data_dir = os.path.expanduser(str(data_dir))
    found = _find(split, data_dir, source, files, image_list, class_names)
    images = _source(
        *(found, split, data_dir, files, tfds_name, image_list, class_names),
        *(num_classes, label_offset, bad, shard),
    )
    batches = images.batches(
        batch_size,
        drop_remainder,
        seed=seed,
        shuffle=split == "train" if shuffle is None else shuffle,
        shuffle_buffer=shuffle_buffer,
        cycle_length=cycle_length,
        epochs=epochs,
        start_epoch=start_epoch,
        start_batch=start_batch,
    )
    decoder = imagenet_decoder.Decoder(
        images,
        image_size=image_size,
        scale=PIXELS[pixels],
        augment=augment,
        colours=colours,
        windows=windows,
        share=share,
        antialias=antialias,
        seed=seed,
    )
    batches = decoder.batches(batches, batch_size, drop_remainder)
    if not numbered:
        batches = batches.map(lambda inputs, labels: (inputs["images"], labels))
    return batches.prefetch(tf.data.AUTOTUNE)


def _find(split, data_dir, source, files, image_list, class_names):
    """Which of `SOURCES` it is."""
    of_files = image_list is not None or class_names is not None
    if source not in (None, *SOURCES):
        raise ValueError(
            f"`source` must be one of {SOURCES}, or None. Received: source={source!r}"
        )
    kinds = {"records"} if files is not None else set()
    kinds |= {"files"} if of_files else set()
    if len(kinds | {source or min(kinds, default="")}) > 1:
        raise ValueError(
            "`files` must be left out unless images come from records, `image_list` "
            f"and `class_names` unless they are files. Received: source={source!r}, "
            f"files={files!r}, image_list={image_list!r}, class_names={class_names!r}"
        )
    if source == "tfds" or files is not None:
        return source or "records"
    if data_dir is None:
        raise ValueError(
            "`data_dir` or `files` must say where the images lie. Received: neither"
        )
    if shard_files.can_list(str(data_dir)) and not tf.io.gfile.isdir(str(data_dir)):
        raise FileNotFoundError(
            f"`data_dir` must be a folder that exists. Received: data_dir={data_dir!r}"
        )
    if source or kinds:
        return source or "files"
    holds = {
        "records": bool(imagenet_records.find_shards(split, data_dir)),
        "files": imagenet_folders.split_folder(split, data_dir) is not None,
    }
    found = [kind for kind, held in holds.items() if held]
    if not found:
        raise FileNotFoundError(
            f"`data_dir` must hold shards such as {split}-00000-of-00128, or a folder "
            f"{' or '.join(imagenet_folders.FOLDERS[split])} of images. "
            f"Received: data_dir={str(data_dir)!r}"
        )
    return found[0]  # shards may lie in a folder of the split's name


def _source(
    found,
    split,
    data_dir,
    files,
    tfds_name,
    image_list,
    class_names,
    num_classes,
    label_offset,
    bad,
    shard,
):
    """The source of encoded images."""
    if found == "files":
        images = imagenet_folders.list_images(
            split,
            data_dir,
            num_classes,
            class_names=class_names,
            image_list=image_list,
            label_offset=label_offset or 0,
        )
        return FileSource(images, bad, shard)
    if found == "tfds":
        paths, form = imagenet_records.tfds_shards(
            tfds_name, split, data_dir, num_classes
        )
        if label_offset is not None:
            form = dataclasses.replace(form, label_offset=label_offset)
        return RecordSource(paths, form, bad, shard)
    paths = imagenet_records.find_shards(split, data_dir, files)
    if not paths:
        raise FileNotFoundError(
            f"`data_dir` or `files` must hold shards of {split!r}, such as "
            f"{split}-00000-of-00128. Received: {data_dir!r}, files={files!r}"
        )
    form = imagenet_records.form_of(paths, num_classes, label_offset, bad)
    return RecordSource(paths, form, bad, shard)
