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
        windows, share, antialias, seed: as in `imagenet.load`.
    """

    def __init__(
        self,
        source,
        *,
        image_size,
        scale,
        augment,
        colours,
        windows,
        share,
        antialias,
        seed,
    ):
        self._source, self._augment, self._seed = source, augment, seed
        self._size, self._antialias = image_size, antialias
        self._windows, self._share = windows, share
        with tf.device("CPU:0"):  # the input pipeline's, never an accelerator's
            # A row of pixels at once: several times as fast as channels one by one.
            shift, divisor = (
                tf.tile(tf.constant(part), [image_size]) for part in scale
            )
            self._shift, self._factor = shift, 1.0 / divisor
            self._keys = tf.constant(source.keys)
        self._change = colours.changes() if augment and colours else None
        # Two: batches that are parsed must not be taken for images that are decoded.
        self._parsing = image_decoding.Watch(source.check)
        self._decoding = image_decoding.Watch(source.check)

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
        # Of what is no message at all, TensorFlow shows the bytes and no name.
        encoded, labels = self._parsing.over(
            lambda file: self._source.encoded({**batch, "file": file}),
            *(batch["file"], batch["file"], batch["number"]),
        )
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
            if self._windows == "shifted":
                numbers = place if self._augment else None
                return imagenet_crops.shifted_window(
                    height, width, numbers, self._share
                )
            if self._augment:
                return imagenet_crops.random_window(height, width, place)
            return imagenet_crops.centre_window(height, width, self._share)

        def pixels(encoded):
            return imagenet_crops.decode(self._source.image(encoded), window)

        image = self._decoding.over(pixels, one["encoded"], one["file"], one["number"])
        if self._augment:
            # Of bytes, and no slice of negative step: that took as long as decoding.
            same, other = lambda: image, lambda: tf.reverse(image, [1])
            image = tf.cond(mirror[0] < 0.5, same, other)
        image = imagenet_crops.resample(image, self._size, self._antialias)
        if self._change is not None:
            image = self._change(image, change)
        rows = tf.reshape(image, [self._size, 3 * self._size])
        return tf.reshape((rows - self._shift) * self._factor, image.shape)


def _nothing(values, count):
    """So many more of what fills up a batch."""
    return tf.zeros([count, *values.shape[1:]], values.dtype)
