"""Records of many files in an order that a seed fixes, over workers and restarts."""

import tensorflow as tf

from datasets import record_errors

# Records that are taken from a file before it is the next file's turn.
BLOCK = 32

_FOREVER = 2**62
# Seeds of the library's own draws must not move with the user's global seed.
_GLOBAL_SEED = 1


def batches_by_epoch(
    paths,
    read,
    to_batches,
    *,
    in_blocks,
    are_own,
    seed,
    shuffle,
    shuffle_buffer,
    cycle_length,
    shard,
    epochs,
    start_epoch,
):
    """Dataset of batches, epoch after epoch; every epoch ends with its last record.

    The order of an epoch follows from (seed, epoch) alone: files are permuted, read
    `cycle_length` at a time, `BLOCK` records of each in turn, and shuffled in a buffer.

    Args:
        paths: list of str, the files.
        read: callable, (file, epoch) int64 scalars -> dataset of its records, dicts,
            or of blocks of `BLOCK` records.
        to_batches: callable, dataset of records -> dataset of batches.
        in_blocks: bool, whether `read` gives blocks.
        are_own: bool, whether it gives this worker's records only.
        seed: int.
        shuffle: bool; False keeps the order of the files.
        shuffle_buffer: int, records; below 2 permutes the files only.
        cycle_length: int, files open at the same time.
        shard: (index, count). With at least as many files as workers, each takes
            every count-th file of the epoch's order, else every count-th record.
        epochs: int or None for no end, counted from epoch 0. Without end, an epoch
            that has no batch is an error.
        start_epoch: int.
    """
    files, (index, count) = len(paths), shard
    by_files = files >= count
    end = _FOREVER if epochs is None else epochs

    def own(records):
        if by_files or are_own:
            return records
        return records.filter(lambda record: record["number"] % count == index)

    def one_epoch(epoch):
        if not tf.executing_eagerly():
            tf.random.set_seed(_GLOBAL_SEED)  # of this function's graph only
        order = tf.range(files, dtype=tf.int64)
        if shuffle:
            key = tf.stack([tf.constant(seed, tf.int64), epoch])
            order = tf.random.experimental.stateless_shuffle(order, seed=key)
        chosen = order[index::count] if by_files else order
        records = tf.data.Dataset.from_tensor_slices(chosen).interleave(
            lambda file: own(read(file, epoch)),
            cycle_length=min(cycle_length, files),
            block_length=1 if in_blocks else BLOCK,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        if in_blocks:
            records = records.unbatch()
        if shuffle and shuffle_buffer > 1:
            records = records.shuffle(
                shuffle_buffer,
                # One number for both: shuffle takes a scalar.
                seed=tf.constant(seed, tf.int64) * 1_000_003 + epoch,
                reshuffle_each_iteration=False,
            )
        batches = to_batches(records)
        return batches if epochs is not None else never_empty(batches, paths[0])

    return tf.data.Dataset.range(start_epoch, max(end, start_epoch)).flat_map(one_epoch)


def never_empty(batches, path):
    """The same batches of an epoch, where having none is an error.

    Epochs without end would else be looked through for ever, without a word.

    Args:
        batches: `tf.data.Dataset` of dicts of tensors.
        path: str, the first of the files, to be named.
    """
    text = (
        "`batch_size` must be at most the records of this worker that can be used, as "
        "smaller batches are dropped. Received: an epoch without a batch."
    )
    said = record_errors.mark(record_errors.RecordError(path, None, "record", text))
    nothing = tf.nest.map_structure(
        lambda spec: tf.zeros([size or 0 for size in spec.shape], spec.dtype),
        batches.element_spec,
    )
    end = tf.data.Dataset.from_tensors((nothing, True))
    marked = batches.map(lambda batch: (batch, False)).concatenate(end)

    def see(seen, batch, is_end):
        check = tf.debugging.Assert(seen | ~is_end, [said])
        with tf.control_dependencies([check]):
            return tf.constant(True), (batch, tf.identity(is_end))

    marked = marked.scan(False, lambda seen, one: see(seen, *one))
    return marked.filter(lambda _, is_end: ~is_end).map(lambda batch, _: batch)
