"""Batches of encoded images to batches of pixels, each image treated by itself."""

import tensorflow as tf

from datasets import frame_draws, image_decoding, imagenet_crops
from datasets.imagenet_colours import COLOUR_NUMBERS

_SIZES = (imagenet_crops.WINDOW_NUMBERS, 1, COLOUR_NUMBERS)  # 1: mirrored or not
DRAWS = sum(_SIZES)
LEVELS = 1 << 24  # of numbers in [0, 1) that float32 holds exactly


class Decoder:
    """Makes images of one size out of encoded ones.

    Args:
        source: one of datasets/imagenet_source.py.
        image_size: int.
        scale: (shift, divisor) of red, green and blue.
        augment: bool.
        colours: `Colours` or None.
        centre_share, antialias, seed: as in `imagenet.load`.
    """

    def __init__(
        self,
        source,
        *,
        image_size,
        scale,
        augment,
        colours,
        centre_share,
        antialias,
        seed,
    ):
        self._source, self._augment, self._seed = source, augment, seed
        self._size, self._share, self._antialias = image_size, centre_share, antialias
        with tf.device("CPU:0"):  # the input pipeline's, never an accelerator's
            self._shift, divisor = map(tf.constant, scale)
            self._factor = 1.0 / divisor
            self._keys = tf.constant(source.keys)
        self._change = colours.changes() if augment and colours else None
        self._watch = image_decoding.Watch(source.check)

    def batches(self, batches, batch_size, drop_remainder):
        """Dataset of ({"images", "number"}, labels), from one of batches of places.

        Images are decoded in parallel beyond the limits of batches, and only batches
        of one size can be put together again from single images. So those that are not
        full are filled up in between.
        """

        def prepare(batch):
            prepared = self._prepare(batch)
            size = tf.shape(prepared["label"])[0]
            prepared["real"] = tf.ones([size], tf.bool)
            if drop_remainder:
                return prepared
            return {
                name: tf.concat([values, _nothing(values, batch_size - size)], axis=0)
                for name, values in prepared.items()
            }

        def decode(one):
            image = tf.cond(
                one["real"],
                lambda: self._decode(one),
                lambda: tf.zeros([self._size, self._size, 3]),
            )
            number = image_decoding.place_of(one["file"], one["number"])
            return {"images": image, "number": number}, one["label"], one["real"]

        def put_together(inputs, labels, real):
            if drop_remainder:
                return inputs, labels
            size = tf.math.count_nonzero(real)
            return {name: part[:size] for name, part in inputs.items()}, labels[:size]

        parallel = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
        images = batches.map(prepare, **parallel).unbatch().map(decode, **parallel)
        return images.batch(batch_size, drop_remainder=True).map(put_together)

    def _prepare(self, batch):
        encoded, labels = self._source.encoded(batch)
        prepared = {"encoded": encoded, "label": labels}
        prepared |= {"file": batch["file"], "number": batch["number"]}
        if self._augment:
            levels = frame_draws.draw(
                DRAWS,
                tf.fill(tf.shape(labels), tf.constant(LEVELS, tf.int64)),
                self._seed,
                batch["epoch"],
                tf.gather(self._keys, batch["file"]),
                batch["number"],
                graph=True,
            )
            prepared["draws"] = tf.cast(levels, tf.float32) / LEVELS
        return prepared

    def _decode(self, one):
        if self._augment:
            draws = tf.ensure_shape(one["draws"], [DRAWS])
            place, mirror, change = tf.split(draws, _SIZES)

        def window(height, width):
            if self._augment:
                return imagenet_crops.random_window(height, width, place)
            return imagenet_crops.centre_window(height, width, self._share)

        def pixels(encoded):
            return imagenet_crops.decode(self._source.image(encoded), window)

        image = self._watch.over(pixels, one["encoded"], one["file"], one["number"])
        image = imagenet_crops.resample(image, self._size, self._antialias)
        if self._augment:
            image = tf.where(mirror < 0.5, image, image[:, ::-1])
        if self._change is not None:
            image = self._change(image, change)
        return (image - self._shift) * self._factor


def _nothing(values, count):
    """So many more of what fills up a batch."""
    return tf.zeros([count, *values.shape[1:]], values.dtype)
