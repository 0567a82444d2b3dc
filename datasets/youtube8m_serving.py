"""Serialized videos of YouTube-8M as a model takes them, inside a served graph."""

import tensorflow as tf

from datasets.youtube8m_records import dequantise


def parse(examples, features, max_frames=300):
    """Frame-level records as inputs of a model.

    Args:
        examples: serialized `SequenceExample`s, strings `[batch]`.
        features: {name: numbers per frame}, in the order of concatenation.
        max_frames: int, what comes after is left out.

    Returns:
        (ids, strings `[batch]`; {"frames": float32 `[batch, frames, width]`
        dequantised and padded with 0.0, "num_frames": int32 `[batch]`}).

    Raises:
        tf.errors.InvalidArgumentError: when run, on frames of a wrong length and on
            features with different numbers of frames.
    """
    context, lists, _ = tf.io.parse_sequence_example(
        examples,
        context_features={"id": tf.io.FixedLenFeature([], tf.string, "")},
        sequence_features={
            name: tf.io.RaggedFeature(tf.string, row_splits_dtype=tf.int64)
            for name in features
        },
    )
    first, *others = lists.values()
    counts = first.row_lengths()
    checks = [
        tf.debugging.assert_equal(
            other.row_lengths(),
            counts,
            "`examples` must have as many frames of each feature.",
        )
        for other in others
    ]
    parts = []
    for name, size in features.items():
        octets = lists[name][:, :max_frames].flat_values
        rule = f"`{name}` must hold {size} bytes per frame."
        with tf.control_dependencies(
            [*checks, tf.debugging.assert_equal(tf.strings.length(octets), size, rule)]
        ):
            parts.append(tf.reshape(tf.io.decode_raw(octets, tf.uint8), [-1, size]))
    values = dequantise(tf.concat(parts, axis=1))
    counts = tf.minimum(counts, max_frames)
    frames = tf.RaggedTensor.from_row_lengths(values, counts, validate=False)
    padded = tf.ensure_shape(frames.to_tensor(), [None, None, sum(features.values())])
    return context["id"], {"frames": padded, "num_frames": tf.cast(counts, tf.int32)}
