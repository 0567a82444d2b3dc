"""Batches of clips, in an order that a seed fixes, over workers and restarts."""

import numpy as np
import tensorflow as tf

from datasets import record_errors
from datasets.kinetics_clips import Plan

_FOREVER = 2**62


class ClipBatches:
    """Reads videos in the order of each epoch, and makes batches of their clips.

    Args:
        source: one of datasets/kinetics_sources.py.
        form: `kinetics_clips.Form`.
        bad: `BadRecords`.
        skip: bool, leave out what cannot be read.
    """

    def __init__(self, source, form, bad, skip):
        self._source, self._form, self._bad, self._skip = source, form, bad, skip
        self._good = set()  # numbers of the videos that could be read

    def dataset(
        self, size, shuffle, shard, epochs, start_epoch, start_batch, drop_remainder
    ):
        """Dataset of batches; arguments as of `kinetics.load`.

        Returns:
            `tf.data.Dataset` of (clips uint8 `[batch, frames, crop, crop, 3]`, labels
            int64, names strings, and numbers of the videos int64, `[batch]` each).

        Raises:
            ValueError: there is nothing for this worker.
        """
        if shard[1] > len(self._source):
            raise ValueError(
                f"`shard` must have at most as many workers as there are videos, "
                f"{len(self._source)}. Received: shard={shard}"
            )
        videos = len(self._source)
        if drop_remainder:
            videos -= videos % shard[1]  # or some workers' epochs could be longer
        own = len(range(shard[0], videos, shard[1])) * self._form.views
        if drop_remainder and size > own:
            raise ValueError(
                f"`batch_size` must be at most the {own} clips of an epoch, as smaller "
                f"batches are dropped. Received: batch_size={size}"
            )
        per_epoch = own // size if drop_remainder else -(-own // size)
        passed = start = 0
        if not self._skip:
            passed, start = divmod(start_batch, per_epoch)
        start_epoch += passed
        end = _FOREVER if epochs is None else max(epochs, start_epoch)

        def one_epoch(epoch):
            order = tf.range(len(self._source), dtype=tf.int64)
            if shuffle:
                key = tf.stack([tf.constant(self._form.seed, tf.int64), epoch])
                order = tf.random.experimental.stateless_shuffle(order, seed=key)
            first = tf.constant(start * size, tf.int64)
            first = tf.where(epoch == start_epoch, first, 0)
            order = order[shard[0] : videos : shard[1]][first // self._form.views :]
            clips = self._clips(order, epoch).skip(first % self._form.views)
            batches = clips.batch(size, drop_remainder=drop_remainder)
            return self._with_end(batches, size if drop_remainder else 1)

        dataset = tf.data.Dataset.range(start_epoch, end).flat_map(one_epoch)
        if self._skip:
            return dataset.skip(start_batch)
        count = (end - start_epoch) * per_epoch - start
        count = tf.data.INFINITE_CARDINALITY if epochs is None else max(0, count)
        return dataset.apply(tf.data.experimental.assert_cardinality(count))

    def _clips(self, order, epoch):
        """Dataset of clips, of the videos of these numbers."""
        videos = tf.data.Dataset.from_tensor_slices(order).map(
            lambda number: self._read(number, epoch),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        if self._skip:
            videos = videos.filter(lambda pictures, *rest: tf.size(pictures) > 0)

        def views(pictures, index, label, name, number):
            def one(view):
                along = self._form.spatial_views
                chosen = tf.gather(index, view // along)
                clip = tf.gather(tf.gather(pictures, view % along), chosen)
                return clip, label, name, number

            return tf.data.Dataset.range(self._form.views).map(one)

        return videos.flat_map(views)

    def _read(self, number, epoch):
        form = self._form
        types = [tf.uint8, tf.int32, tf.int64, tf.string]
        pictures, index, label, name = tf.numpy_function(
            self._take, [number, epoch], types, stateful=False
        )
        pictures.set_shape([form.spatial_views, None, form.crop, form.crop, 3])
        index.set_shape([form.temporal_views, form.frames])
        label.set_shape([])
        name.set_shape([])
        return pictures, index, label, name, number

    def _take(self, number, epoch):
        """Pictures `[spatial_views, n, …]`, the clips' index in them, label, name."""
        form = self._form
        try:
            taken = self._source.read(
                int(number), lambda times, name: Plan(times, name, int(epoch), form)
            )
        except record_errors.RecordError as error:
            if not self._skip:
                raise ValueError(record_errors.mark(error)) from None
            self._bad.add(error)
            nothing = np.zeros((form.spatial_views, 0, form.crop, form.crop, 3))
            index = np.zeros((form.temporal_views, form.frames), np.int32)
            return nothing.astype(np.uint8), index, np.int64(0), b""
        self._good.add(int(number))
        if taken.damage is not None:
            self._bad.used.add(taken.damage)
        pictures = np.stack(taken.cuts, axis=1)
        return pictures, taken.plan.index, np.int64(taken.label), taken.name.encode()

    def _with_end(self, batches, least):
        """The batches of an epoch, and what is to be said after them."""

        def nothing():
            self._bad.log()
            clips = len(self._good) * self._form.views
            if self._skip and clips < least:  # else epochs without end would hang here
                raise ValueError(
                    f"`skip_bad_records` must leave at least {least} clips for a "
                    f"batch. Received: {clips}. {self._bad.summary()}"
                )
            return iter(())

        return batches.concatenate(
            tf.data.Dataset.from_generator(
                nothing, output_signature=batches.element_spec
            )
        )
