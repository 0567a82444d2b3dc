r"""Videos per second into training batches of YouTube-8M, against the usual way.

    python benchmarks/youtube8m_input.py             # a few minutes on 2 cores
    python benchmarks/youtube8m_input.py --smoke     # small, says nothing

Writes shards of full size (rgb 1024, audio 128, up to 300 frames, 3862 classes) into
a temporary folder, and reads batches of 25 random frames from them:

* ours: `datasets.youtube8m.load`, which copies the drawn frames out of the files;
* ours, verified: with `verify_checksums=True`, which reads and parses all frames, as it
  is done for files far away;
* reference: the way the public references have it. Every record is parsed by itself,
  all its frames are decoded, dequantised and padded to 300, batched, and then sampled.
  In parallel, with as many calls as tf.data finds best;
* reference, normalised: the same with the L2 norm of every frame that they also take
  before they sample.

Goal: at least 8 times the reference, in the middle of training: every pipeline goes
over the files without end, and its first batches, which wait for graphs to be built and
buffers to fill, do not count. All read the same files in the same run, from the page
cache, in turn, and the medians over the rounds are compared: of seconds on the clock,
and of CPU seconds in all threads, which a busy machine disturbs less.

Unless `--model` is empty, a training step of that network is timed as well, and the
share of it that the input takes is printed: seconds per batch of the pipeline by
seconds per step.
Goal: under 10 %.

Writes benchmarks/results/youtube8m_input_<TensorFlow line>.csv.
"""

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from absl import app, flags, logging
from rich.console import Console

import zoo
from benchmarks import input_timing, recording
from datasets import synthetic, youtube8m
from ensemble_heads import provenance
from ensemble_heads.keras_api import keras

GOAL = 8.0
SHARE_GOAL = 0.1
REFERENCE = "reference"
FRAMES = 25

FLAGS = flags.FLAGS


def pipelines(files, batch_size, epochs=None):
    """{name: function that makes its dataset}; epochs None has no end."""
    ours = {"files": files, "batch_size": batch_size, "random_frames": FRAMES}
    ours["epochs"] = epochs
    usual = {"files": files, "batch_size": batch_size, "epochs": epochs}
    return {
        REFERENCE: lambda: reference(**usual),
        "reference, normalised": lambda: reference(**usual, normalise=True),
        "ours": lambda: youtube8m.load("train", **ours),
        "ours, verified": lambda: youtube8m.load(
            "train", verify_checksums=True, **ours
        ),
    }


def reference(files, batch_size, epochs=None, normalise=False):
    """`tf.data.Dataset` of (frames, labels), one record after the other."""
    records = tf.data.Dataset.from_tensor_slices(files).interleave(
        tf.data.TFRecordDataset,
        cycle_length=len(files),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    videos = records.shuffle(2048).repeat(epochs)
    videos = videos.map(_parse, num_parallel_calls=tf.data.AUTOTUNE)
    batches = videos.batch(batch_size)

    def sample(frames, number, labels):
        if normalise:
            frames = tf.math.l2_normalize(frames, axis=-1)
        share = tf.random.uniform([tf.shape(frames)[0], FRAMES])
        drawn = tf.cast(share * tf.cast(number, tf.float32)[:, tf.newaxis], tf.int32)
        return tf.gather(frames, drawn, batch_dims=1), labels

    batches = batches.map(sample, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(tf.data.AUTOTUNE)


def _parse(serialized):
    """(frames `[300, 1152]`, their number, multi-hot labels) of one record."""
    context, lists = tf.io.parse_single_sequence_example(
        serialized,
        context_features={"labels": tf.io.VarLenFeature(tf.int64)},
        sequence_features={
            name: tf.io.FixedLenSequenceFeature([], tf.string)
            for name in youtube8m.FEATURES
        },
    )
    columns = []
    for name, size in youtube8m.FEATURES.items():
        octets = tf.reshape(tf.io.decode_raw(lists[name], tf.uint8), [-1, size])
        values = tf.cast(octets, tf.float32) * (4 / 255) + (4 / 512 - 2)
        values = values[: youtube8m.MAX_FRAMES]
        number = tf.shape(values)[0]
        missing = youtube8m.MAX_FRAMES - number
        values = tf.pad(values, [[0, missing], [0, 0]])
        columns.append(tf.ensure_shape(values, [youtube8m.MAX_FRAMES, size]))
    labels = tf.scatter_nd(
        context["labels"].values[:, tf.newaxis],
        tf.ones_like(context["labels"].values, tf.float32),
        tf.constant([youtube8m.CLASSES], tf.int64),
    )
    return tf.concat(columns, axis=1), number, labels


def seconds_per_step(name, files, batch_size, steps):
    """Seconds of a training step of a network of the zoo."""
    model = zoo.build(name)
    model.compile(optimizer=keras.optimizers.Adam(0.005), loss="binary_crossentropy")
    dataset = youtube8m.load(
        "train", files=files, batch_size=batch_size, random_frames=FRAMES
    )
    batch = next(iter(dataset))
    return input_timing.seconds_per_step(model, batch, steps)


def verdict(lines):
    """A sentence: whether the goal is met."""
    reached = next(x["seconds_ratio"] for x in lines if x["pipeline"] == "ours")
    return (
        f"ours: {reached:.2f} x the reference, goal {GOAL:g}: "
        f"{'met' if reached >= GOAL else 'missed'}"
    )


def share_verdict(name, per_batch, per_step):
    """A sentence: whether the input's share of a step is small enough."""
    share = per_batch / per_step
    return (
        f"{name}: input {per_batch:.4f} s, step {per_step:.4f} s a batch: "
        f"{share:.1%}, goal under {SHARE_GOAL:.0%}: "
        f"{'met' if share < SHARE_GOAL else 'missed'}"
    )


def define_flags():
    flags.DEFINE_integer("batch_size", 128, "Videos per batch.", lower_bound=1)
    flags.DEFINE_integer("videos", 2048, "Videos in the shards.", lower_bound=1)
    flags.DEFINE_integer("shards", 4, "Files.", lower_bound=1)
    flags.DEFINE_integer("rounds", 7, "Rounds.", lower_bound=1)
    flags.DEFINE_integer("batches", 64, "Batches of a round.", lower_bound=1)
    flags.DEFINE_integer("warm_up", 8, "Batches before those.", lower_bound=0)
    flags.DEFINE_integer(
        "steps", 5, "Training steps to time, after two.", lower_bound=1
    )
    flags.DEFINE_string(
        "model",
        "dbof_2heads",
        "Network of the input share, by its zoo name; empty for none.",
    )
    flags.DEFINE_boolean("smoke", False, "Small shards, one round, no network.")
    recording.define_output("youtube8m_input")


def main(_):
    logging.set_verbosity(logging.ERROR)
    console = Console(highlight=False)
    videos, rounds, batches, model = (
        (16, 1, 2, "")
        if FLAGS.smoke
        else (FLAGS.videos, FLAGS.rounds, FLAGS.batches, FLAGS.model)
    )
    each = -(-videos // FLAGS.shards)
    load = recording.busy_before()
    settings = {
        "videos": each * FLAGS.shards,
        "batch_size": FLAGS.batch_size,
        "rounds": rounds,
        "batches": batches,
        "load_before": load,
        "model": model,
        "seconds_per_step": "",
    }
    with tempfile.TemporaryDirectory() as folder:
        files = synthetic.write_youtube8m(folder, "train", FLAGS.shards, each)
        made = pipelines(files, FLAGS.batch_size)
        times = input_timing.measure(made, rounds, FLAGS.warm_up, batches)
        read = batches * FLAGS.batch_size
        lines = input_timing.summarise(times, REFERENCE, read, "videos")
        if model:
            settings["seconds_per_step"] = seconds_per_step(
                model, files, FLAGS.batch_size, FLAGS.steps
            )
    made_with = provenance.describe()
    title = (
        f"{rounds} rounds of {batches} batches of {FLAGS.batch_size}, load "
        f"{load:.1f}, TensorFlow {made_with['tensorflow']}, {made_with['machine']}"
    )
    console.print(input_timing.render(lines, title, "videos"))
    console.print(verdict(lines), soft_wrap=True)
    if model:
        of_ours = next(line for line in lines if line["pipeline"] == "ours")
        per_batch = FLAGS.batch_size / of_ours["videos_per_second"]
        console.print(
            share_verdict(model, per_batch, settings["seconds_per_step"]),
            soft_wrap=True,
        )
    path = recording.path_of("youtube8m_input", FLAGS.output)
    recording.keep(path, [{**line, **settings, **made_with} for line in lines], console)


if __name__ == "__main__":
    define_flags()
    app.run(main)
