"""Serialized YouTube-8M records to batches of tensors, with checks that name culprits.

Whole batches are parsed at once. Frames stay strings until it is clear which are
wanted: only those are decoded and dequantised.
"""

import dataclasses

import tensorflow as tf

from datasets import frame_draws, record_errors

# x * 4/255 + (4/512 - 2): 256 levels onto [-2, 2], and half a level up.
DEQUANTISE_SCALE = 4 / 255
DEQUANTISE_BIAS = 4 / 512 - 2

SEGMENT_FRAMES = 5


@dataclasses.dataclass(frozen=True)
class Form:
    """What records hold and what shall be made of them, as `youtube8m.load` says."""

    level: str
    features: dict
    num_classes: int
    random_frames: int | None = None
    max_frames: int = 300
    pad_to: int | None = None
    with_ids: bool = False
    seed: int = 0

    @property
    def width(self):
        """Numbers of all features together."""
        return sum(self.features.values())


def rules(form):
    """{field: the sentence that says what it must be}, for messages."""
    said = {
        name: f"`{name}` must hold {size} bytes in each frame."
        for name, size in form.features.items()
    }
    said["labels"] = f"`labels` must be from 0 to {form.num_classes - 1}."
    return said


def dequantise(octets):
    """uint8 `[…]` to float32 `[…]` from -1.992 to 2.008."""
    # One pass over memory, three times as fast as a cast, a product and a sum.
    return tf.quantization.dequantize(
        tf.bitcast(octets, tf.quint8),
        DEQUANTISE_BIAS,
        DEQUANTISE_BIAS + 255 * DEQUANTISE_SCALE,
        mode="MIN_COMBINED",
    )


def video_batch(batch, paths, form):
    """A batch of video-level records.

    Args:
        batch: {"record": serialized `Example` `[batch]`, "file", "number": int64
            `[batch]`}.
        paths: string tensor `[files]`.
        form: `Form`.

    Returns:
        An element of `youtube8m.load`.
    """
    wanted = {mean_name(name): size for name, size in form.features.items()}
    parsed = tf.io.parse_example(
        batch["record"],
        {
            **context_features(),
            **{name: ragged(tf.float32) for name in wanted},
        },
        example_names=record_errors.names(paths, batch),
    )
    checks, parts = [], []
    for name, size in wanted.items():
        lengths = parsed[name].row_lengths()
        checks += record_errors.assert_each(
            lengths == size,
            paths,
            batch,
            name,
            f"`{name}` must hold {size} numbers.",
            lengths,
            " numbers.",
        )
        parts.append((parsed[name].flat_values, size))
    labels = _labels(parsed["labels"], batch, paths, form)
    with tf.control_dependencies(checks):
        columns = [tf.reshape(values, [-1, size]) for values, size in parts]
        features = tf.concat(columns, axis=1)
    return _element({"features": features}, labels, parsed["id"], form)


def frame_batch(batch, paths, keys, form):
    """A batch of frame-level records; arguments as in `video_batch`.

    Args:
        batch: has int64 "epoch" `[batch]` too.
        keys: int64 `[files]`, the `frame_draws.file_key` of each.
    """
    context, strings, counts = checked_frames(batch, paths, form)
    labels = _labels(context["labels"], batch, paths, form)
    counts = tf.minimum(counts, form.max_frames)
    if form.random_frames:
        drawn = frame_draws.draw(
            form.random_frames,
            counts,
            form.seed,
            batch["epoch"],
            tf.gather(keys, batch["file"]),
            batch["number"],
            graph=True,
        )
        frames = _decode(strings, drawn, form)
    else:
        steps = tf.ragged.range(counts)
        flat = {
            name: tf.gather(rows.flat_values, _flat_index(rows, steps))
            for name, rows in strings.items()
        }
        octets = [
            tf.reshape(tf.io.decode_raw(flat[name], tf.uint8), [-1, size])
            for name, size in form.features.items()
        ]
        values = dequantise(tf.concat(octets, axis=1))
        frames = tf.RaggedTensor.from_row_splits(
            values, steps.row_splits, validate=False
        ).to_tensor()
    return frames_element(frames, counts, labels, context["id"], form)


def drawn_batch(batch, paths, form):
    """A batch of records whose frames are drawn already; arguments as `video_batch`.

    Args:
        batch: has "frames" too, a list of uint8 `[batch, random_frames, prefix and
            value]` per feature, and its "record" may lack feature lists.
    """
    context, _, _ = tf.io.parse_sequence_example(
        batch["record"],
        context_features=context_features(),
        example_names=record_errors.names(paths, batch),
    )
    labels = _labels(context["labels"], batch, paths, form)
    octets = [
        values[:, :, -size:]
        for values, size in zip(batch["frames"], form.features.values())
    ]
    frames = dequantise(tf.concat(octets, axis=-1))
    counts = tf.fill([tf.shape(frames)[0]], tf.constant(form.random_frames, tf.int64))
    return frames_element(frames, counts, labels, context["id"], form)


def frames_element(frames, counts, labels, ids, form):
    """Pads frames behind the end and puts an element of `youtube8m.load` together."""
    if form.random_frames:
        counts = tf.fill(tf.shape(counts), tf.constant(form.random_frames, tf.int64))
    length = form.random_frames or (SEGMENT_FRAMES if form.level == "segment" else None)
    if form.pad_to:
        missing = form.pad_to - tf.shape(frames)[1]
        frames = tf.pad(frames, [[0, 0], [0, missing], [0, 0]])
        length = form.pad_to
    frames = tf.ensure_shape(frames, [None, length, form.width])
    inputs = {"frames": frames, "num_frames": tf.cast(counts, tf.int32)}
    return _element(inputs, labels, ids, form)


def mean_name(name):
    """What a feature is called in video-level files."""
    return name if name.startswith("mean_") else f"mean_{name}"


def ragged(dtype):
    """A feature of any length, for TensorFlow's parsers."""
    return tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)


def context_features():
    return {
        "id": tf.io.FixedLenFeature([], tf.string, ""),
        "labels": ragged(tf.int64),
    }


def checked_frames(batch, paths, form, context=None):
    """Parses and checks records of frames.

    Returns:
        The context; {name: ragged strings `[batch, (frames)]`}; int64 `[batch]`, the
        numbers of frames.
    """
    context, lists, _ = tf.io.parse_sequence_example(
        batch["record"],
        context_features=context or context_features(),
        sequence_features={n: ragged(tf.string) for n in form.features},
        example_names=record_errors.names(paths, batch),
    )
    said, strings, checks = rules(form), {}, []
    for name, size in form.features.items():
        per_frame = lists[name].values.row_lengths()
        single = record_errors.assert_each(
            per_frame == 1,
            paths,
            batch,
            name,
            f"`{name}` must have one value in each frame.",
            per_frame,
            " values in a frame.",
            of=lists[name].value_rowids(),
        )
        with tf.control_dependencies(single):
            flat = tf.identity(lists[name].flat_values)
        rows = tf.RaggedTensor.from_row_splits(
            flat, lists[name].row_splits, validate=False
        )
        sizes = tf.strings.length(flat)
        checks += record_errors.assert_each(
            sizes == size,
            paths,
            batch,
            name,
            said[name],
            sizes,
            " bytes in a frame.",
            of=rows.value_rowids(),
        )
        strings[name] = rows
    checks += _count_checks(strings, batch, paths)
    with tf.control_dependencies(checks):
        strings = {
            name: rows.with_values(tf.identity(rows.values))
            for name, rows in strings.items()
        }
        counts = tf.identity(next(iter(strings.values())).row_lengths())
    return context, strings, counts


def _count_checks(strings, batch, paths):
    (first, rows), *others = strings.items()
    counts = rows.row_lengths()
    checks = record_errors.assert_each(
        counts > 0,
        paths,
        batch,
        first,
        f"`{first}` must have at least one frame.",
        "none.",
    )
    for name, other in others:
        checks += record_errors.assert_each(
            other.row_lengths() == counts,
            paths,
            batch,
            name,
            f"`{name}` must have as many frames as `{first}`.",
            other.row_lengths(),
            " frames against ",
            counts,
            ".",
        )
    return checks


def _labels(labels, batch, paths, form):
    """Ragged int64 `[batch, labels]` to float32 multi-hot `[batch, classes]`."""
    values, rows = labels.flat_values, labels.value_rowids()
    checks = record_errors.assert_each(
        (values >= 0) & (values < form.num_classes),
        paths,
        batch,
        "labels",
        rules(form)["labels"],
        values,
        ".",
        of=rows,
    )
    with tf.control_dependencies(checks):
        places = tf.stack([rows, values], axis=1)
    hot = tf.zeros([tf.size(batch["number"]), form.num_classes])
    return tf.tensor_scatter_nd_update(hot, places, tf.ones_like(values, tf.float32))


def _flat_index(rows, frames):
    """Positions in `rows.flat_values` of frames `[batch, (drawn)]` of each row."""
    starts = rows.row_starts()
    if isinstance(frames, tf.RaggedTensor):
        return frames.flat_values + tf.repeat(starts, frames.row_lengths())
    return frames + starts[:, tf.newaxis]


def _decode(strings, drawn, form):
    """float32 `[batch, drawn, width]` of frames int64 `[batch, drawn]`."""
    octets = []
    for name, size in form.features.items():
        rows = strings[name]
        chosen = tf.gather(rows.flat_values, _flat_index(rows, drawn))
        octets.append(tf.io.decode_raw(chosen, tf.uint8, fixed_length=size))
    return dequantise(tf.concat(octets, axis=-1))


def _element(inputs, labels, ids, form):
    labels = tf.ensure_shape(labels, [None, form.num_classes])
    return (inputs, labels, ids) if form.with_ids else (inputs, labels)
