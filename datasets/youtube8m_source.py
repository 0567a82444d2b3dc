"""How the records of YouTube-8M files are read and made batches of."""

import functools

import numpy as np
import tensorflow as tf

from datasets import (
    drawn_frames,
    frame_draws,
    record_checks,
    record_errors,
    shard_files,
    youtube8m_checks,
    youtube8m_records,
    youtube8m_segments,
)

_READ_BUFFER = 1 << 20  # bytes; a record has up to 350 kB
# Where a record lies whose frames are drawn by arithmetic, as one vector of numbers.
_PLACE = ("file", "epoch", "number", "start", "end")
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
        if self._by_arithmetic:
            self._reader = drawn_frames.FrameReader(paths, self._keys, form)
        # Whether `read` gives blocks of records, and whether of this worker's only.
        self.in_blocks = bad is not None
        self.are_own = self._by_arithmetic or self.in_blocks

    def read(self, file, epoch):
        """Dataset of the records of a file; both are int64 scalars."""
        if self.are_own:
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
            return youtube8m_records.drawn_batch(self._drawn(batch), paths, form)
        keys = tf.constant(self._keys, tf.int64)
        return youtube8m_records.frame_batch(batch, paths, keys, form)

    def _drawn(self, places):
        """Contexts and drawn frames of a batch of places, with what says whose."""

        def read(places):
            with record_errors.marked():
                contexts, frames = self._reader.read(*places.T)
            return [contexts, *frames]

        types = [tf.string] + [tf.uint8] * len(self._form.features)
        contexts, *frames = tf.numpy_function(read, [places], types, stateful=False)
        size = places.shape[0]
        contexts.set_shape([size])
        for values in frames:
            values.set_shape([size, self._form.random_frames, None])
        parts = dict(zip(_PLACE, tf.unstack(places, axis=1)))
        return {**parts, "record": contexts, "frames": frames}

    def _from_python(self, file, epoch):
        if self._by_arithmetic:
            places = tf.numpy_function(self._places, [file, epoch], tf.int64)
            return tf.data.Dataset.from_tensor_slices(
                tf.ensure_shape(places, [None, len(_PLACE)])
            )
        numbers = tf.TensorSpec([None], tf.int64)
        signature = dict.fromkeys(("number", "file", "epoch"), numbers)
        signature["record"] = tf.TensorSpec([None], tf.string)
        return tf.data.Dataset.from_generator(
            self._checked_blocks, output_signature=signature, args=(file, epoch)
        )

    def _places(self, file, epoch):
        """`_PLACE` of all records of a file, int64 `[records, 5]`."""
        with record_errors.marked():
            found = drawn_frames.places(self._paths[file])
        found = found[self._keep(found[:, 0])]
        own = np.broadcast_to(np.array([file, epoch], np.int64), (len(found), 2))
        return np.concatenate([own, found], axis=1)

    def _checked_blocks(self, file, epoch):
        blocks = record_checks.good_blocks(
            self._paths[file],
            functools.partial(youtube8m_checks.check, form=self._form),
            self._keep,
            self._bad,
        )
        for block in blocks:
            places = np.full_like(block["number"], file)
            yield {**block, "file": places, "epoch": np.full_like(places, epoch)}

    def _keep(self, number):
        index, count = self._shard
        return (len(self._paths) >= count) | (number % count == index)

    def _log(self, batches):
        def nothing():
            self._bad.log()
            return iter(())

        return tf.data.Dataset.from_generator(
            nothing, output_signature=batches.element_spec
        )
