"""Handwritten digits: 1797 images of 8 x 8 pixels that ship with scikit-learn.

The test part of Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI
machine learning repository, 1998. Nothing is downloaded.
"""

import functools

import numpy as np
import tensorflow as tf

EXAMPLES = 1797
CLASSES = 10
IMAGE_SHAPE = (8, 8, 1)
SPLITS = ("train", "test")


def load(
    split,
    data_dir=None,
    batch_size=32,
    *,
    seed=0,
    train_examples=500,
    max_shift=0,
    synthetic=False,
    numbered=False,
):
    """The digits as batches of images and labels.

    The seed draws which digits are for training; all others are the test part. The
    training part comes in a new order in each iteration, the test part always in the
    same. Both keep a last batch that is smaller, so an iteration gives every example
    exactly once.

    Args:
        split: `"train"` or `"test"`.
        data_dir: None; here because every data set's `load` takes it.
        batch_size: int >= 1.
        seed: int >= 0, draws the split, and with TensorFlow's global seed the order
            and the shifts.
        train_examples: int, the size of the training part, 1 to 1796.
        max_shift: int in 0 to 7, pixels; training images are shifted by up to so many
            in both directions, drawn anew for each image and iteration. What enters
            is blank.
        synthetic: bool, as many noisy bars in place of the digits: the same
            `element_spec` without scikit-learn.
        numbered: bool, give a dict of the `"images"` and the `"number"` of each among
            all digits, int64 `[batch]`, in place of the images.

    Returns:
        `tf.data.Dataset` of `(images, labels)`: float32 `[batch, 8, 8, 1]` from 0
        (blank) to 1 (ink), and int64 `[batch]` from 0 to 9.

    Raises:
        ValueError: an argument out of its range.
    """
    _check(split, data_dir, batch_size, seed, train_examples, max_shift)
    images, labels = _synthetic() if synthetic else _real()
    chosen = split_indices(seed, train_examples)[SPLITS.index(split)]
    inputs = {"images": images[chosen], "number": chosen.astype(np.int64)}
    dataset = tf.data.Dataset.from_tensor_slices((inputs, labels[chosen]))
    if split == "train":
        dataset = dataset.shuffle(len(chosen), seed=seed)
    dataset = dataset.batch(batch_size)
    if split == "train" and max_shift:
        random = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
        pairs = tf.data.Dataset.zip((dataset, random.batch(2)))
        dataset = pairs.map(
            lambda batch, seeds: (_shifted(batch[0], max_shift, seeds), batch[1])
        )
    if not numbered:
        dataset = dataset.map(lambda inputs, labels: (inputs["images"], labels))
    return dataset.prefetch(tf.data.AUTOTUNE)


def split_indices(seed, train_examples):
    """Positions of the training and of the test examples, two int arrays."""
    order = np.random.default_rng(seed).permutation(EXAMPLES)
    return order[:train_examples], order[train_examples:]


@functools.lru_cache(maxsize=1)
def _real():
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "The digits come with scikit-learn, which is not installed: "
            "pip install -e '.[recipes]'"
        ) from error
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[..., np.newaxis]
    return images, digits.target.astype(np.int64)


@functools.lru_cache(maxsize=1)
def _synthetic():
    """Ten patterns of bars, one per class, each under noise of its own."""
    random = np.random.default_rng(0)
    labels = random.permutation(EXAMPLES) % CLASSES
    bits = (labels[:, np.newaxis] + 1) >> np.arange(4) & 1  # [examples, 4 bars]
    bars = np.repeat(bits, 2, axis=1)[:, np.newaxis, :, np.newaxis]
    noise = random.normal(0.0, 0.2, (EXAMPLES, *IMAGE_SHAPE))
    images = np.clip(0.2 + 0.6 * bars + noise, 0.0, 1.0)
    return images.astype(np.float32), labels.astype(np.int64)


def _shifted(inputs, limit, seeds):
    return {**inputs, "images": _shift(inputs["images"], limit, seeds)}


def _shift(images, limit, seeds):
    """Moves every image by up to `limit` pixels in both directions.

    Args:
        images: float `[batch, height, width, channels]`.
        limit: int.
        seeds: int64 `[2]`.
    """
    batch = tf.shape(images)[0]
    height, width = images.shape[1:3]
    padded = tf.pad(images, [[0, 0], [limit, limit], [limit, limit], [0, 0]])
    starts = tf.random.stateless_uniform(
        [2, batch, 1], seeds, maxval=2 * limit + 1, dtype=tf.int32
    )
    rows = tf.gather(padded, starts[0] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(
        tf.ensure_shape(rows, [None, height, width + 2 * limit, images.shape[3]]),
        # One set of columns per image, for each of its rows.
        tf.repeat((starts[1] + tf.range(width))[:, tf.newaxis], height, axis=1),
        axis=2,
        batch_dims=2,
    )


def _check(split, data_dir, batch_size, seed, train_examples, max_shift):
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {SPLITS}. Received: split={split!r}")
    if data_dir is not None:
        raise ValueError(
            "`data_dir` must be left out: the digits come with scikit-learn. "
            f"Received: data_dir={data_dir!r}"
        )
    for name, value, low, high in (
        ("batch_size", batch_size, 1, None),
        ("seed", seed, 0, None),
        ("train_examples", train_examples, 1, EXAMPLES - 1),
        ("max_shift", max_shift, 0, IMAGE_SHAPE[0] - 1),
    ):
        if value < low or high is not None and value > high:
            bounds = f"at least {low}" if high is None else f"from {low} to {high}"
            raise ValueError(f"`{name}` must be {bounds}. Received: {name}={value}")
