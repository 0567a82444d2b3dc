"""How the records of YouTube-8M files are read and made batches of."""

import numpy as np
import tensorflow as tf

from datasets import (
    drawn_frames,
    frame_draws,
    record_checks,
    record_errors,
    shard_files,
    youtube8m_records,
    youtube8m_segments,
)

_READ_BUFFER = 1 << 20  # bytes; a record has up to 350 kB
_SEGMENT_PARSE = 16  # records parsed at once at segment level


class Source:
    """Reads records in one of three ways, and makes batches of them.

    Serialized by TensorFlow; drawn frames by arithmetic (datasets/drawn_frames.py);
    or checked one by one in Python, where bad records are skipped.

    Args:
        paths: list of str.
        form: `youtube8m_records.Form`.
        verify_checksums: bool, never draw by arithmetic.
        bad: `BadRecords` or None.
        shard: (index, count).
    """

    def __init__(self, paths, form, verify_checksums, bad, shard):
        self._paths, self._form, self._bad, self._shard = paths, form, bad, shard
        names = map(shard_files.base_name, paths)
        self._keys = [frame_draws.file_key(name) for name in names]
        local = all(shard_files.is_local(path) for path in paths)
        self._by_arithmetic = bool(
            form.level == "frame"
            and form.random_frames
            and local
            and not verify_checksums
            and bad is None
        )
        # Whether `read` gives blocks of records, which Python makes.
        self.in_blocks = self._by_arithmetic or bad is not None

    def read(self, file, epoch):
        """Dataset of the records of a file; both are int64 scalars."""
        if self.in_blocks:
            return self._from_python(file, epoch)
        path = tf.gather(tf.constant(self._paths), file)
        parts = {
            "record": tf.data.TFRecordDataset(path, buffer_size=_READ_BUFFER),
            "number": tf.data.Dataset.range(1 << 62),
            "file": tf.data.Dataset.from_tensors(file).repeat(),
            "epoch": tf.data.Dataset.from_tensors(epoch).repeat(),
        }
        return tf.data.Dataset.zip(parts)

    def to_batches(self, records, batch_size, drop_remainder):
        """Batches of records, or of segments."""
        if self._form.level == "segment":
            records = records.batch(_SEGMENT_PARSE).map(
                lambda batch: youtube8m_segments.segments(
                    batch, tf.constant(self._paths), self._form
                ),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            records = records.unbatch()
        batches = records.batch(batch_size, drop_remainder=drop_remainder)
        return batches if self._bad is None else batches.concatenate(self._log(batches))

    def decode(self, batch):
        """An element of `load` from a batch of records."""
        paths, form = tf.constant(self._paths), self._form
        if form.level == "segment":
            return youtube8m_segments.segment_batch(batch, form)
        if form.level == "video":
            return youtube8m_records.video_batch(batch, paths, form)
        if self._by_arithmetic:
            return youtube8m_records.drawn_batch(batch, paths, form)
        keys = tf.constant(self._keys, tf.int64)
        return youtube8m_records.frame_batch(batch, paths, keys, form)

    def _from_python(self, file, epoch):
        form = self._form
        numbers = tf.TensorSpec([None], tf.int64)
        signature = dict.fromkeys(("number", "file", "epoch"), numbers)
        signature["record"] = tf.TensorSpec([None], tf.string)
        if self._by_arithmetic:
            shape = [None, form.random_frames, form.width]
            signature["frames"] = tf.TensorSpec(shape, tf.uint8)
        return tf.data.Dataset.from_generator(
            self._blocks, output_signature=signature, args=(file, epoch)
        )

    def _blocks(self, file, epoch):
        path, key = self._paths[file], self._keys[file]
        if self._by_arithmetic:
            blocks = drawn_frames.drawn_blocks(path, key, epoch, self._form, self._keep)
        else:
            blocks = record_checks.good_blocks(path, self._form, self._keep, self._bad)
        try:
            for block in blocks:
                places = np.full_like(block["number"], file)
                yield {**block, "file": places, "epoch": np.full_like(places, epoch)}
        except record_errors.RecordError as error:
            raise ValueError(record_errors.mark(error)) from None

    def _keep(self, number):
        index, count = self._shard
        return len(self._paths) >= count or number % count == index

    def _log(self, batches):
        def nothing():
            self._bad.log()
            return iter(())

        return tf.data.Dataset.from_generator(
            nothing, output_signature=batches.element_spec
        )
