"""Batches of images in memory, in an order and with crops that a seed fixes."""

import numpy as np
import tensorflow as tf

PAD = 4  # pixels on each side that random crops are taken from
_OFFSETS = 2 * PAD + 1
_FOREVER = 2**62


def batches(
    images,
    labels,
    chosen,
    *,
    batch_size,
    scale,
    seed,
    shuffle,
    augment,
    epochs,
    start_epoch,
    start_batch,
    drop_remainder,
    numbered,
    share=(0, 1),
):
    """Dataset of batches, epoch after epoch; a batch never reaches over an epoch's end.

    The order follows from (seed, epoch), crop and mirroring of an image from (seed,
    epoch, image) alone, so that any place can be started from at no cost.

    Args:
        images: uint8 `[examples, height, width, channels]`.
        labels: int64 `[examples]`.
        chosen: int64 `[n]`, numbers of the images to take.
        batch_size: int >= 1.
        scale: pair (shift, divisor) of arrays that fit an image; pixels become
            (pixel - shift) / divisor.
        seed: int.
        shuffle: bool; False keeps the order of `chosen`.
        augment: bool, random crops and mirroring.
        epochs: int, the number of the epoch to end before; None never ends.
        start_epoch: int.
        start_batch: int, counted from the start of that epoch, may lie beyond it.
        drop_remainder: bool, drop an epoch's last batch if it is not full.
        numbered: bool, give a dict of `"images"` and `"number"`.
        share: (i, n), give the i-th of n equal parts of every batch alone.
    """
    part, parts = share
    own_size = batch_size * (part + 1) // parts - batch_size * part // parts
    count = len(chosen)
    per_epoch = count // batch_size if drop_remainder else -(-count // batch_size)
    passed, start = divmod(start_batch, per_epoch)
    start_epoch += passed
    end = _FOREVER if epochs is None else max(epochs, start_epoch)
    with tf.device("CPU:0"):  # the input pipeline's, never an accelerator's
        images, labels, chosen = map(tf.constant, (images, labels, chosen))
        shift, divisor = (tf.constant(part, tf.float32) for part in scale)

    def one_epoch(epoch):
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        order_key, crop_key = tf.unstack(tf.random.experimental.stateless_split(key))
        order, crops = chosen, tf.zeros([len(images)], tf.int32)
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, seed=order_key)
        if augment:
            crops = tf.random.stateless_uniform(
                [len(images)], crop_key, maxval=2 * _OFFSETS**2, dtype=tf.int32
            )

        def one_batch(step):
            numbers = order[step * batch_size : (step + 1) * batch_size]
            size = tf.size(numbers)
            numbers = numbers[size * part // parts : size * (part + 1) // parts]
            return numbers, tf.gather(crops, numbers)

        first = tf.where(epoch == start_epoch, tf.constant(start, tf.int64), 0)
        return tf.data.Dataset.range(first, per_epoch).map(one_batch)

    def one_element(numbers, crops):
        if drop_remainder:
            numbers = tf.ensure_shape(numbers, [own_size])
        pixels = tf.gather(images, numbers)
        if augment:
            pixels = crop_and_mirror(pixels, crops)
        pixels = (tf.cast(pixels, tf.float32) - shift) / divisor
        inputs = {"images": pixels, "number": numbers} if numbered else pixels
        return inputs, tf.gather(labels, numbers)

    dataset = tf.data.Dataset.range(start_epoch, end).flat_map(one_epoch)
    dataset = dataset.map(
        one_element, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    size = (end - start_epoch) * per_epoch - start
    size = tf.data.INFINITE_CARDINALITY if epochs is None else max(0, size)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(size))
    return dataset.prefetch(tf.data.AUTOTUNE)


def crop_and_mirror(images, crops):
    """Images cut out of a black frame of `PAD` pixels, and mirrored or not.

    Args:
        images: `[batch, height, width, channels]`.
        crops: int32 `[batch]` from 0 to 161: the row and the column of the cut, and
            whether to mirror, in one number.
    """
    height, width, channels = images.shape[1:]
    margins = [[0, 0], [PAD, PAD], [PAD, PAD], [0, 0]]
    padded = tf.reshape(
        tf.pad(images, margins),
        [-1, (height + 2 * PAD) * (width + 2 * PAD), channels],
    )
    crops = crops[:, tf.newaxis]
    rows = tf.range(height) + crops // (2 * _OFFSETS)
    across = tf.range(width)
    across = tf.where(crops % 2 == 1, width - 1 - across, across)
    columns = across + crops // 2 % _OFFSETS
    places = rows[:, :, tf.newaxis] * (width + 2 * PAD) + columns[:, tf.newaxis]
    return tf.gather(padded, places, axis=1, batch_dims=1)  # [batch, h, w, channels]


def channel_statistics(images):
    """Mean and standard deviation of each channel over all pixels, float64 `[c]`."""
    levels = np.arange(256.0)
    counts = [
        np.bincount(images[..., channel].ravel(), minlength=256)
        for channel in range(images.shape[-1])
    ]
    shares = np.stack(counts) / images[..., 0].size
    mean = shares @ levels
    return mean, np.sqrt(shares @ levels**2 - mean**2)


def mean_image(images):
    """float64 `[height, width, channels]`"""
    return images.mean(axis=0, dtype=np.float64)
