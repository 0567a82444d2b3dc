"""TFRecord shards of images, as the common converters write them.

Every record is a `tf.train.Example`; what is read of it:

* TF-Slim's and the TPU's converters (build_imagenet_data, imagenet_to_gcs): the file as
  `image/encoded`, the class as `image/class/label` from 1 to 1000, in the order of the
  sorted synsets: 0 is kept for a background class. Shards train-00000-of-01024 and
  validation-00000-of-00128, in one folder or in a folder per split.
* TensorFlow Datasets: `image` and `label`, from 0. Shards
  imagenet2012-train.tfrecord-00000-of-01024, in a folder per version.

Which of both it is, is seen in the first record.
"""

import dataclasses
import itertools

import tensorflow as tf

from datasets import record_checks, record_errors, shard_files, tfrecord_framing
from datasets.record_checks import Broken, Misfit, feature_values

PATTERNS = (
    "{split}-*-of-*",
    "{split}/{split}-*-of-*",
    "*-{split}.tfrecord-*-of-*",
)


@dataclasses.dataclass(frozen=True)
class Form:
    """What the records of a converter hold.

    Attributes:
        image, label: str, keys of the encoded image and of its class.
        label_offset: int, the number of the first class.
        num_classes: int.
    """

    image: str
    label: str
    label_offset: int
    num_classes: int = 1000

    def label_rule(self):
        """The sentence that says which labels there are."""
        low = self.label_offset
        other = "0" if low else "1"
        return (
            f"`{self.label}` must be from {low} to {low + self.num_classes - 1}, as "
            f"num_classes={self.num_classes} and label_offset={low} say (files whose "
            f"first class is {other} want label_offset={other})."
        )


CONVERTERS = Form("image/encoded", "image/class/label", 1)
TFDS = Form("image", "label", 0)


def find_shards(split, data_dir, files=None):
    """Paths of a split's shards, sorted by name; [] where there are none.

    Args:
        split: `"train"` or `"validation"`.
        data_dir: str, folder or URL, or None.
        files: path, glob, range or list of such, below `data_dir` if that is given.

    Raises:
        FileNotFoundError: a file that was named, or one of a numbered set, is missing.
        ValueError: a folder with more than one set, each with all images.
    """
    if files is not None:
        return shard_files.named(files, data_dir)
    folder = shard_files.prefix(data_dir)
    if not shard_files.can_list(folder):
        raise ValueError(
            "`files` must be given over http, where no folder can be listed. "
            f"Received: data_dir={data_dir!r}"
        )
    for pattern in PATTERNS:
        pattern = shard_files.literal(folder) + pattern.format(split=split)
        if found := shard_files.expand(pattern):
            shard_files.check_one_set(found)
            return found
    return []


def tfds_shards(name, split, data_dir, num_classes):
    """Paths of what TensorFlow Datasets has prepared, and the `Form` of its records.

    Raises:
        FileNotFoundError: the data set is not prepared.
        ImportError: TensorFlow Datasets is not installed.
        ValueError: it holds other things than images of so many classes.
    """
    try:
        import tensorflow_datasets as tfds  # takes seconds, and many never need it
    except ImportError as error:
        raise ImportError(
            "`source='tfds'` needs TensorFlow Datasets, which cannot be imported "
            f"({error}): pip install tensorflow-datasets"
        ) from error
    builder = tfds.builder(name, data_dir=data_dir)
    if split not in builder.info.splits:
        raise FileNotFoundError(
            f"`tfds_name` must be prepared with a split {split!r}: "
            f"tfds.builder({name!r}).download_and_prepare(), which for imagenet2012 "
            "wants the archives put where its page says. Received: "
            f"tfds_name={name!r}, with the splits {list(builder.info.splits)} in "
            f"{builder.data_dir}"
        )
    image, label = builder.info.supervised_keys or (TFDS.image, TFDS.label)
    classes = getattr(builder.info.features[label], "num_classes", None)
    is_image = isinstance(builder.info.features[image], tfds.features.Image)
    if not is_image or classes != num_classes:
        raise ValueError(
            f"`tfds_name` must be a data set of images of num_classes={num_classes} "
            f"classes. Received: tfds_name={name!r}, with {classes} classes"
        )
    paths = [str(path) for path in builder.info.splits[split].filepaths]
    if builder.info.file_format.value != "tfrecord":
        raise ValueError(
            "`tfds_name` must be prepared as TFRecords. Received: "
            f"tfds_name={name!r}, as {builder.info.file_format.value}"
        )
    shard_files.check_exist(paths)
    return paths, dataclasses.replace(
        TFDS, image=image, label=label, num_classes=num_classes
    )


def form_of(paths, num_classes, label_offset, bad=None):
    """The `Form` that the first record that can be parsed has.

    Args:
        paths: list of str.
        num_classes: int.
        label_offset: int, or None for that of the converter.
        bad: `BadRecords` to go on past a bad record; None fails there.

    Raises:
        RecordError: a bad record.
        ValueError: records of no known converter.
    """
    known = (CONVERTERS, TFDS)
    for path in paths:
        noted = record_errors.BadRecords() if bad is None else bad
        for number, serialized in record_checks.whole_records(path, noted):
            try:
                with record_checks.naming(path, number):
                    features = record_checks.parse(tf.train.Example, serialized)
                    names = features.features.feature
            except record_errors.RecordError as error:
                noted.add(error)
            else:
                for form in known:
                    if form.image in names and form.label in names:
                        return _settled(form, num_classes, label_offset)
                raise ValueError(
                    "`files` must hold records of a known converter, with "
                    + " or ".join(f"{f.image!r} and {f.label!r}" for f in known)
                    + f". Received: {sorted(names)} in {path}"
                )
            if bad is None:
                break
        if bad is None and noted.errors:
            raise noted.errors[0]
    raise ValueError(
        f"`files` must hold records. Received: {len(paths)} files without one that "
        f"can be read, such as {paths[0]}"
    )


def parse(batch, paths, form):
    """Encoded images and labels of a batch of records.

    Args:
        batch: {"record": serialized `Example` `[batch]`, "file", "number": int64
            `[batch]`}.
        paths: string tensor `[files]`.
        form: `Form`.

    Returns:
        string `[batch]`, and int64 `[batch]` from 0 to below `form.num_classes`.
    """
    any_length = {"row_splits_dtype": tf.int64}
    parsed = tf.io.parse_example(
        batch["record"],
        {
            form.image: tf.io.RaggedFeature(tf.string, **any_length),
            form.label: tf.io.RaggedFeature(tf.int64, **any_length),
        },
        example_names=record_errors.names(paths, batch),
    )
    single = []
    for name, rule in _single_rules(form):
        lengths = parsed[name].row_lengths()
        single += record_errors.assert_each(
            lengths == 1, paths, batch, name, rule, lengths, " values."
        )
    with tf.control_dependencies(single):
        labels = tf.identity(parsed[form.label].flat_values)
    right = record_errors.assert_each(
        (labels >= form.label_offset) & (labels < form.label_offset + form.num_classes),
        paths,
        batch,
        form.label,
        form.label_rule(),
        labels,
        ".",
    )
    with tf.control_dependencies(right):
        return parsed[form.image].flat_values, labels - form.label_offset


def checked_image(serialized, form):
    """The encoded image of a record, by the same rules as `parse`, or `Broken`."""
    features = record_checks.parse(tf.train.Example, serialized).features.feature
    kinds = {form.image: "bytes_list", form.label: "int64_list"}
    for name, rule in _single_rules(form):
        count = len(feature_values(features, name, kinds[name]))
        if count != 1:
            raise Broken(name, rule, f"{count} values.")
    (label,) = feature_values(features, form.label, kinds[form.label])
    if not 0 <= label - form.label_offset < form.num_classes:
        raise Misfit(form.label, form.label_rule(), f"{label}.")
    (encoded,) = feature_values(features, form.image, kinds[form.image])
    return encoded


def record(path, number):
    """bytes of one record of a file, found by the headers of those before."""
    walk = tfrecord_framing.walk(path)
    position, length = next(itertools.islice(walk, number, None))
    with tf.io.gfile.GFile(path, "rb") as file:
        file.seek(position + tfrecord_framing.HEADER.size)
        return file.read(length)


def _single_rules(form):
    return [
        (name, f"`{name}` must have one value.") for name in (form.image, form.label)
    ]


def _settled(form, num_classes, label_offset):
    offset = form.label_offset if label_offset is None else label_offset
    return dataclasses.replace(form, num_classes=num_classes, label_offset=offset)
