r"""Images per second into training batches of ImageNet, against the usual way.

    python benchmarks/imagenet_input.py             # some minutes on 2 cores
    python benchmarks/imagenet_input.py --images='folder/*.JPEG'
    python benchmarks/imagenet_input.py --smoke     # small, says nothing

Writes shards of made-up JPEGs of the size that most of ILSVRC's have, 500 x 375 pixels
and some 90 kB, or of the images given, into a temporary folder, and reads training
batches from them, 224 x 224:

* ours: `datasets.imagenet.load` without colours: of every JPEG only a random window is
  decoded;
* ours, colours: with all that training does;
* reference: a straightforward pipeline. Every image is decoded as a whole, a window is
  cut out by `tf.image.sample_distorted_bounding_box`, resized and mirrored;
* reference, colours: the same, and the batch goes through keras-cv's layers.

Each of ours is compared with the reference that gives the same. All read the same
files in the same run, from the page cache, in turn, and medians over the rounds are
compared: of seconds on the clock, and of CPU seconds in all threads, which a busy
machine disturbs less.

Unless `--model` is empty, a training step of that network is timed as well, and the
share of it that the input takes is printed: seconds per batch of "ours, colours" by
seconds per step.

Writes benchmarks/results/imagenet_input_<TensorFlow line>.csv.
"""

import glob
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
from datasets import imagenet, imagenet_crops, synthetic_imagenet
from ensemble_heads import provenance
from ensemble_heads.keras_api import keras

REFERENCES = {
    "reference": "reference",
    "ours": "reference",
    "reference, colours": "reference, colours",
    "ours, colours": "reference, colours",
}
SIZE = 224

FLAGS = flags.FLAGS


def pipelines(files, batch_size, epochs=None):
    """{name: function that makes its dataset}; epochs None has no end."""
    usual = {"files": files, "batch_size": batch_size, "epochs": epochs}
    ours = {**usual, "drop_remainder": epochs is None}
    return {
        "reference": lambda: reference(**usual),
        "ours": lambda: imagenet.load("train", colours=None, **ours),
        "reference, colours": lambda: reference(**usual, colours=imagenet.Colours()),
        "ours, colours": lambda: imagenet.load("train", **ours),
    }


def reference(files, batch_size, epochs=None, colours=None):
    """`tf.data.Dataset` of (images, labels) from whole images."""
    records = tf.data.Dataset.from_tensor_slices(files).interleave(
        tf.data.TFRecordDataset,
        cycle_length=len(files),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    examples = records.shuffle(2048).repeat(epochs)
    images = examples.map(_parse, num_parallel_calls=tf.data.AUTOTUNE)
    batches = images.batch(batch_size)
    change = _layers(colours) if colours else lambda images: images
    shift, divisor = map(tf.constant, imagenet.PIXELS["standardised"])
    batches = batches.map(
        lambda images, labels: ((change(images) - shift) / divisor, labels),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def _parse(serialized):
    """(image from 0 to 255, label) of one record."""
    parsed = tf.io.parse_single_example(
        serialized,
        {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/class/label": tf.io.FixedLenFeature([], tf.int64),
        },
    )
    pixels = tf.io.decode_jpeg(parsed["image/encoded"], channels=3)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.shape(pixels),
        bounding_boxes=tf.zeros([1, 0, 4]),
        aspect_ratio_range=imagenet_crops.ASPECT,
        area_range=imagenet_crops.AREA,
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    image = tf.image.resize(tf.slice(pixels, begin, size), [SIZE, SIZE])
    image = tf.image.random_flip_left_right(tf.ensure_shape(image, [SIZE, SIZE, 3]))
    return image, parsed["image/class/label"] - 1


def _layers(colours):
    """Callable that changes a batch as `Colours` says, by layers in a fixed order."""
    from keras_cv import layers

    # What the layer makes of s is s / (1 - s), the factor of the saturation.
    low, high = 1 - colours.saturation, 1 + colours.saturation
    made = [
        layers.RandomBrightness(colours.brightness, (0.0, 255.0)),
        layers.RandomContrast((0.0, 255.0), colours.contrast),
        layers.RandomSaturation((low / (1 + low), high / (1 + high))),
    ]

    def change(images):
        for layer in made:
            images = layer(images, training=True)
        return images

    return change


def write_shards(folder, shards, each, images=None):
    """Shards of made-up images, or of those whose files are given, over and over."""
    paths = synthetic_imagenet.write_imagenet(folder, "train", shards, each)
    if not images:
        return paths
    for shard, path in enumerate(paths):
        with tf.io.TFRecordWriter(path) as writer:
            for number in range(shard * each, (shard + 1) * each):
                encoded = Path(images[number % len(images)]).read_bytes()
                writer.write(synthetic_imagenet.example(encoded, 0, "given"))
    return paths


def seconds_per_step(name, batch_size, steps):
    """Seconds of a training step of a network of the zoo."""
    model = zoo.build(name)
    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        loss="sparse_categorical_crossentropy",
    )
    images = tf.random.normal([batch_size, SIZE, SIZE, 3])
    batch = (images, tf.range(batch_size, dtype=tf.int64))
    return input_timing.seconds_per_step(model, batch, steps)


def share_verdict(name, per_batch, per_step):
    """A sentence: the input's share of a step."""
    return (
        f"{name}: input {per_batch:.4f} s, step {per_step:.4f} s a batch: "
        f"{per_batch / per_step:.1%}"
    )


def define_flags():
    flags.DEFINE_integer("batch_size", 8, "Images per batch.", lower_bound=1)
    flags.DEFINE_integer("examples", 512, "Images in the shards.", lower_bound=1)
    flags.DEFINE_integer("shards", 4, "Files.", lower_bound=1)
    flags.DEFINE_integer("rounds", 7, "Rounds.", lower_bound=1)
    flags.DEFINE_integer("batches", 64, "Batches of a round.", lower_bound=1)
    flags.DEFINE_integer("warm_up", 16, "Batches before those.", lower_bound=0)
    flags.DEFINE_integer(
        "steps", 7, "Training steps to time, after two.", lower_bound=1
    )
    flags.DEFINE_string(
        "images", "", "Glob of JPEGs to read in place of those made up."
    )
    flags.DEFINE_string(
        "model",
        "resnet50",
        "Network of the input share, by its zoo name; empty for none.",
    )
    flags.DEFINE_boolean("smoke", False, "Few images, one round, no network.")
    recording.define_output("imagenet_input")


def main(_):
    logging.set_verbosity(logging.ERROR)
    console = Console(highlight=False)
    examples, rounds, batches, model = (
        (8, 1, 2, "")
        if FLAGS.smoke
        else (FLAGS.examples, FLAGS.rounds, FLAGS.batches, FLAGS.model)
    )
    images = sorted(glob.glob(FLAGS.images)) if FLAGS.images else None
    if images == []:
        raise app.UsageError(
            f"`images` must match files. Received: images={FLAGS.images!r}"
        )
    each = -(-examples // FLAGS.shards)
    load = recording.busy_before()
    with tempfile.TemporaryDirectory() as folder:
        files = write_shards(folder, FLAGS.shards, each, images)
        size = sum(os.path.getsize(file) for file in files) / (each * FLAGS.shards)
        made = pipelines(files, FLAGS.batch_size)
        times = input_timing.measure(made, rounds, FLAGS.warm_up, batches)
    read = batches * FLAGS.batch_size
    lines = input_timing.summarise(times, REFERENCES, read, "images")
    settings = {
        "images": len(images) if images else each * FLAGS.shards,
        "given": bool(images),
        "bytes_per_image": round(size),
        "batch_size": FLAGS.batch_size,
        "rounds": rounds,
        "batches": batches,
        "load_before": load,
        "model": model,
        "seconds_per_step": "",
    }
    if model:
        settings["seconds_per_step"] = seconds_per_step(
            model, FLAGS.batch_size, FLAGS.steps
        )
    made_with = provenance.describe()
    title = (
        f"{rounds} rounds of {batches} batches of {FLAGS.batch_size}, "
        f"{size / 1000:.0f} kB an image, load {load:.1f}, TensorFlow "
        f"{made_with['tensorflow']}, {made_with['machine']}"
    )
    console.print(input_timing.render(lines, title, "images"))
    if model:
        of_ours = next(x for x in lines if x["pipeline"] == "ours, colours")
        per_batch = FLAGS.batch_size / of_ours["images_per_second"]
        console.print(
            share_verdict(model, per_batch, settings["seconds_per_step"]),
            soft_wrap=True,
        )
    path = recording.path_of("imagenet_input", FLAGS.output)
    recording.keep(path, [{**line, **settings, **made_with} for line in lines], console)


if __name__ == "__main__":
    define_flags()
    app.run(main)
