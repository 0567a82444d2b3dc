"""Where encoded images come from, in an order that a seed fixes: shards or files.

Both sources give batches of places, `{"file", "number", "epoch"}` int64 `[batch]`: the
number of a file among all, and of a record in it, 0 for a file that is an image.
"""

import numpy as np
import tensorflow as tf

from datasets import (
    frame_draws,
    image_decoding,
    imagenet_records,
    record_checks,
    record_errors,
    record_order,
    shard_files,
)

_READ_BUFFER = 1 << 20  # bytes; an image has about 110 kB
_FOREVER = 2**62


class RecordSource:
    """Images out of TFRecords.

    Args:
        paths: list of str.
        form: `imagenet_records.Form`.
        bad: `BadRecords`, or None to fail at a bad record.
        shard: (index, count).
    """

    def __init__(self, paths, form, bad, shard):
        self._paths, self._form, self._bad, self._shard = paths, form, bad, shard
        with tf.device("CPU:0"):
            self._all_paths = tf.constant(paths)
        names = map(shard_files.base_name, paths)
        self.keys = np.array([frame_draws.file_key(name) for name in names], np.int64)
        record_errors.remember(paths)

    def batches(
        self, batch_size, drop_remainder, *, start_batch, shuffle_buffer, **order
    ):
        """Dataset of batches of places and serialized records, `"record"`."""

        def to_batches(records):
            batches = records.batch(batch_size, drop_remainder=drop_remainder)
            return batches if self._bad is None else _logging_after(batches, self._bad)

        batches = record_order.batches_by_epoch(
            self._paths,
            self._read,
            to_batches,
            in_blocks=self._bad is not None,
            are_own=self._bad is not None,
            shuffle_buffer=shuffle_buffer,
            shard=self._shard,
            **order,
        )
        return batches.skip(start_batch) if start_batch else batches

    def encoded(self, batch):
        """What `image` takes of each place, string `[batch]`, and labels from 0."""
        return imagenet_records.parse(batch, self._all_paths, self._form)

    def image(self, encoded):
        """The encoded image, a string scalar."""
        return encoded

    def check(self, file, number):
        """Raises `RecordError` unless an image can be used; numbers of its place."""
        path = self._paths[file]
        self._check(imagenet_records.record(path, number), path, number)

    def _check(self, serialized, path, number):
        with record_checks.naming(path, number):
            encoded = imagenet_records.checked_image(serialized, self._form)
            image_decoding.check(encoded, self._form.image)

    def _read(self, file, epoch):
        if self._bad is not None:
            numbers = tf.TensorSpec([None], tf.int64)
            signature = dict.fromkeys(("number", "file", "epoch"), numbers)
            signature["record"] = tf.TensorSpec([None], tf.string)
            return tf.data.Dataset.from_generator(
                self._checked_blocks, output_signature=signature, args=(file, epoch)
            )
        path = tf.gather(self._all_paths, file)
        parts = {
            "record": tf.data.TFRecordDataset(path, buffer_size=_READ_BUFFER),
            "number": tf.data.Dataset.range(_FOREVER),
            "file": tf.data.Dataset.from_tensors(file).repeat(),
            "epoch": tf.data.Dataset.from_tensors(epoch).repeat(),
        }
        return tf.data.Dataset.zip(parts)

    def _checked_blocks(self, file, epoch):
        index, count = self._shard

        def keep(number):
            return len(self._paths) >= count or number % count == index

        path = self._paths[file]
        for block in record_checks.good_blocks(path, self._check, keep, self._bad):
            places = np.full_like(block["number"], file)
            yield {**block, "file": places, "epoch": np.full_like(places, epoch)}


class FileSource:
    """Images that are files.

    Args:
        images: `imagenet_folders.Images`.
        bad, shard: as in `RecordSource`.
    """

    def __init__(self, images, bad, shard):
        self._paths, self._bad, self._shard = images.paths, bad, shard
        with tf.device("CPU:0"):
            self._all_paths = tf.constant(images.paths)
            self._labels = tf.constant(images.labels)
        self.keys = np.array(
            [frame_draws.file_key(name) for name in images.names], np.int64
        )

    def batches(
        self,
        batch_size,
        drop_remainder,
        *,
        seed,
        shuffle,
        epochs,
        start_epoch,
        start_batch,
        **_,
    ):
        """Dataset of batches of places, each of the epochs in an order of its own.

        Batches before `start_batch` cost nothing, unless bad images are left out: what
        a batch holds is then known only after looking.
        """
        index, count = self._shard
        images = len(self._paths)
        if drop_remainder:
            images -= images % count  # or some workers' epochs could be longer
        own = len(range(index, images, count))
        if drop_remainder and batch_size > own:
            raise ValueError(
                f"`batch_size` must be at most the {own} images of this worker, as "
                f"smaller batches are dropped. Received: batch_size={batch_size}"
            )
        size = own // batch_size if drop_remainder else -(-own // batch_size)
        first = 0
        if self._bad is None and size:
            passed, first = divmod(start_batch, size)
            start_epoch, start_batch = start_epoch + passed, 0
        end = _FOREVER if epochs is None else max(epochs, start_epoch)

        def one_epoch(epoch):
            order = tf.range(len(self._paths), dtype=tf.int64)
            if shuffle:
                key = tf.stack([tf.constant(seed, tf.int64), epoch])
                order = tf.random.experimental.stateless_shuffle(order, seed=key)
            order = order[index:images:count]
            begin = tf.where(epoch == start_epoch, first * batch_size, 0)
            places = tf.data.Dataset.from_tensor_slices(order[begin:])
            if self._bad is not None:
                places = places.map(
                    self._checked, num_parallel_calls=tf.data.AUTOTUNE
                ).filter(lambda file: file >= 0)
            batches = places.batch(batch_size, drop_remainder=drop_remainder)
            if self._bad is not None:
                batches = _logging_after(batches, self._bad)
            batches = batches.map(
                lambda file: {
                    "file": file,
                    "number": tf.zeros_like(file),
                    "epoch": tf.fill(tf.shape(file), epoch),
                }
            )
            if epochs is not None:
                return batches
            return record_order.never_empty(batches, self._paths[0])

        batches = tf.data.Dataset.range(start_epoch, end).flat_map(one_epoch)
        return batches.skip(start_batch) if start_batch else batches

    def encoded(self, batch):
        """What `image` takes of each place, string `[batch]`, and labels from 0."""
        files = batch["file"]
        return tf.gather(self._all_paths, files), tf.gather(self._labels, files)

    def image(self, path):
        """The encoded image, a string scalar."""
        return tf.io.read_file(path)

    def check(self, file, number=0):
        """Raises `RecordError` unless an image can be used; numbers of its place."""
        path = self._paths[file]
        with record_checks.naming(path, None):
            try:
                encoded = tf.io.read_file(path).numpy()
            except tf.errors.OpError as error:
                rule = "`image` must be a file that can be read."
                said = type(error).__name__
                raise record_checks.Broken("image", rule, f"{said}.") from None
            image_decoding.check(encoded, "image")

    def _checked(self, file):
        """The file's number, or -1 where it cannot be used."""
        found = tf.numpy_function(self._number_if_good, [file], tf.int64)
        return tf.ensure_shape(found, [])

    def _number_if_good(self, file):
        try:
            self.check(file)
        except record_errors.RecordError as error:
            self._bad.add(error)
            return np.int64(-1)
        return file


def _logging_after(batches, bad):
    """The same batches; what is bad is logged after the last one."""

    def nothing():
        bad.log()
        return iter(())

    return batches.concatenate(
        tf.data.Dataset.from_generator(nothing, output_signature=batches.element_spec)
    )
