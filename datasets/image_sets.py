"""What data sets of small images share: finding, checking, splitting and loading them.

`fashion_mnist`, `cifar` and `svhn` each describe theirs as an `ImageSet`.
"""

import dataclasses
import functools
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np

from datasets import argument_checks, image_batches, synthetic_images
from datasets.image_files import bad_file

SPLITS = ("train", "validation", "test")
PIXELS = ("standardised", "centred", "unit")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """A data set of images of one size, each of one class.

    Attributes:
        name: str.
        image_shape: (height, width, channels).
        classes: int.
        examples: {"train": int, "test": int} as published.
        readers: callables `(folder, part, image_set)` -> `image_files.Found` or None,
            the first that finds something is believed.
        fetch: callable `(part)` -> `image_files.Found` without a folder.
        files: str, what a folder may hold, for errors.
    """

    name: str
    image_shape: tuple[int, int, int]
    classes: int
    examples: types.MappingProxyType
    readers: tuple[Callable, ...]
    fetch: Callable
    files: str


def load(
    image_set,
    split,
    data_dir=None,
    batch_size=128,
    *,
    seed=0,
    validation_examples=0,
    pixels="standardised",
    augment=False,
    shuffle=None,
    epochs=1,
    start_epoch=0,
    start_batch=0,
    drop_remainder=False,
    numbered=False,
    synthetic=0,
    share=(0, 1),
):
    """Batches of images and labels.

    The seed draws the validation part, and with the epoch the order and the crops,
    whatever TensorFlow's global seed is. An iteration gives the epochs from
    `start_epoch` to below `epochs`, and the next one gives the same again: train on
    `epochs=None` with `steps_per_epoch`. A batch never reaches over an epoch's end.

    Restarting: `start_epoch=e, start_batch=n` gives, bit for bit, what the
    uninterrupted iteration gives from batch n of epoch e on; n may lie beyond that
    epoch. What is passed over costs nothing.

    Args:
        image_set: `ImageSet`.
        split: `"train"`, `"validation"` or `"test"`.
        data_dir: folder of the published files, or npz file; None downloads them.
        batch_size: int >= 1.
        seed: int >= 0.
        validation_examples: int, how many of the published training images are held
            out as `"validation"`, of every class the same share.
        pixels: `"standardised"`: each channel with mean 0 and standard deviation 1;
            `"centred"`: grey levels minus the mean image; `"unit"`: 0 to 1. All by the
            published training images, the validation part among them.
        augment: bool, cut training images at random out of a black frame of 4 pixels,
            and mirror half of them (He et al. 2016, section 4.2).
        shuffle: bool. Default: whether `split` is `"train"`.
        epochs: int, the number of the epoch to end before; None never ends.
        start_epoch, start_batch: int >= 0, see above.
        drop_remainder: bool, drop an epoch's last batch if it is not full.
        numbered: bool, give a dict of the `"images"` and the `"number"` of each in the
            published order, int64 `[batch]`, in place of the images. Training and
            validation share one count, as bagging needs it.
        synthetic: int, make up so many training images and a fifth of it, at least one
            per class, to test, in place of the real ones: the same `element_spec`.
        share: (i, n), for worker i of n that train together: its part of every batch
            alone, as even as can be; the parts of all of them make up the batch.

    Returns:
        `tf.data.Dataset` of `(images, labels)`: float32 `[batch, height, width,
        channels]` and int64 `[batch]` from 0.

    Raises:
        FileNotFoundError: `data_dir` does not exist or holds nothing to read.
        ImportError: a package is missing that reads the files, or downloads them.
        ValueError: an argument out of its range, or a file that breaks a rule.
    """
    argument_checks.check_choices(split=(split, SPLITS), pixels=(pixels, PIXELS))
    argument_checks.check_epochs(epochs)
    argument_checks.check_ranges(
        batch_size=(batch_size, 1),
        seed=(seed, 0),
        validation_examples=(validation_examples, 0),
        start_epoch=(start_epoch, 0),
        start_batch=(start_batch, 0),
        synthetic=(synthetic, 0),
    )
    part, parts = share
    if not 0 <= part < parts:
        raise ValueError(
            f"`share` must be (i, n) with 0 <= i < n. Received: share={share!r}"
        )
    source = (image_set, None if data_dir is None else str(data_dir), synthetic)
    images, labels = _arrays(*source, "test" if split == "test" else "train")
    chosen = np.arange(len(labels))
    if split != "test":
        parts = split_indices(labels, validation_examples, seed)
        chosen = parts[SPLITS.index(split)]
        if not len(chosen):
            raise ValueError(
                f"`validation_examples` must be from {int(split == 'validation')} to "
                f"below {len(labels)}. Received: "
                f"validation_examples={validation_examples}"
            )
    if drop_remainder and batch_size > len(chosen):
        raise ValueError(
            f"`batch_size` must be at most the {len(chosen)} examples of {split!r}, as "
            f"smaller batches are dropped. Received: batch_size={batch_size}"
        )
    return image_batches.batches(
        images,
        labels,
        chosen,
        batch_size=batch_size,
        scale=_scale(*source, pixels),
        seed=seed,
        shuffle=split == "train" if shuffle is None else shuffle,
        augment=augment and split == "train",
        epochs=epochs,
        start_epoch=start_epoch,
        start_batch=start_batch,
        drop_remainder=drop_remainder,
        numbered=numbered,
        share=share,
    )


def arrays(image_set, part, data_dir=None, synthetic=0):
    """The published images and labels of a part, in their order, read-only.

    Args:
        image_set: `ImageSet`.
        part: `"train"` or `"test"`.
        data_dir, synthetic: as for `load`.

    Returns:
        uint8 `[examples, height, width, channels]` and int64 `[examples]`.
    """
    folder = None if data_dir is None else str(data_dir)
    return _arrays(image_set, folder, synthetic, part)


def split_indices(labels, validation_examples, seed):
    """Numbers of the training and of the validation examples, sorted.

    The validation part has the classes' shares of the whole, rounded by largest
    remainders.

    Args:
        labels: int `[examples]`.
        validation_examples: int, at most as many as there are.
        seed: int >= 0.
    """
    count = len(labels)
    if validation_examples > count:
        raise ValueError(
            f"`validation_examples` must be at most {count}. "
            f"Received: validation_examples={validation_examples}"
        )
    quotas = np.bincount(labels) * validation_examples
    taken, remainders = quotas // count, quotas % count
    left = validation_examples - taken.sum()
    taken[np.argsort(-remainders, kind="stable")[:left]] += 1
    order = np.random.default_rng(seed).permutation(count)
    order = order[np.argsort(labels[order], kind="stable")]  # by class
    sizes = np.bincount(labels)
    rank = np.arange(count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    held_out = rank < np.repeat(taken, sizes)
    return np.sort(order[~held_out]), np.sort(order[held_out])


def read(image_set, part, data_dir=None):
    """Reads and checks a part without remembering it; see `arrays`."""
    found = _find(image_set, part, data_dir)
    images, labels = np.asarray(found.images), np.asarray(found.labels)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.dtype != np.uint8 or images.shape[1:] != image_set.image_shape:
        rule = f"hold images of uint8 and of the shape {image_set.image_shape}"
        raise bad_file(found.path, rule, f"{images.dtype} and {images.shape[1:]}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        shown = f"{labels.dtype} of shape {labels.shape}"
        raise bad_file(found.path, "have one integer label per image", shown)
    if len(images) != len(labels) or not len(labels):
        rule = "hold as many labels as images, and some"
        shown = f"{len(images)} images, {len(labels)} labels"
        raise bad_file(found.path, rule, shown)
    expected = image_set.examples[part]
    if len(labels) != expected and not found.any_number:
        rule = f"hold the {expected} images of the {part} part of {image_set.name}"
        raise bad_file(found.path, rule, f"{len(labels)} images")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= image_set.classes:
        rule = f"hold labels from 0 to {image_set.classes - 1}"
        raise bad_file(found.path, rule, f"labels from {low} to {high}")
    kinds, classes = len(np.unique(labels)), image_set.classes
    if len(labels) == expected >= 10 * classes > 10 * kinds:
        # CIFAR-10 is as large as CIFAR-100, and its files may be called the same.
        rule = f"hold images of all {image_set.classes} classes of {image_set.name}"
        raise bad_file(found.path, rule, f"labels of {kinds} classes")
    return images, labels.astype(np.int64)


def _find(image_set, part, data_dir):
    if data_dir is None:
        return image_set.fetch(part)
    folder = Path(data_dir).expanduser()
    if not folder.exists():
        raise FileNotFoundError(
            f"`data_dir` must exist. Received: data_dir={str(data_dir)!r}"
        )
    for reader in image_set.readers:
        found = reader(folder, part, image_set)
        if found is not None:
            return found
    raise FileNotFoundError(
        f"`data_dir` must hold the {part} part of {image_set.name}: {image_set.files}. "
        f"Received: data_dir={str(data_dir)!r}, which holds none of these"
    )


@functools.lru_cache(maxsize=4)  # both parts of two data sets
def _arrays(image_set, data_dir, synthetic, part):
    if synthetic:
        classes = image_set.classes
        count = synthetic if part == "train" else max(classes, synthetic // 5)
        shape = image_set.image_shape
        images, labels = synthetic_images.make(shape, classes, count, part=part)
    else:
        images, labels = read(image_set, part, data_dir)
    for array in (images, labels):
        array.flags.writeable = False
    return images, labels


@functools.lru_cache(maxsize=4)
def _scale(image_set, data_dir, synthetic, pixels):
    """(shift, divisor) of `image_batches.batches`."""
    if pixels == "unit":
        return 0.0, 255.0
    images, _ = _arrays(image_set, data_dir, synthetic, "train")
    if pixels == "centred":
        return image_batches.mean_image(images), 1.0
    mean, deviation = image_batches.channel_statistics(images)
    return mean, np.where(deviation > 0, deviation, 1.0)
