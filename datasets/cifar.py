"""CIFAR-10 and CIFAR-100: 50,000 and 10,000 colour images of 32 x 32 pixels.

Krizhevsky 2009, Learning multiple layers of features from tiny images.

    train = load("train", data_dir, 128, classes=100, augment=True, epochs=None)
    model.fit(train, steps_per_epoch=391)
"""

import functools
import types

from datasets import cifar_files, image_files, image_sets
from ensemble_heads.keras_api import keras

CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
# The page of the data set, where `keras.datasets` has it from as well.
_ORIGIN = "https://www.cs.toronto.edu/~kriz/"
_ARCHIVES = {
    10: cifar_files.Archives(
        binary_folder="cifar-10-batches-bin",
        binary_archive="cifar-10-binary.tar.gz",
        binary_files={
            "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        label_bytes=1,
        python_archive="cifar-10-python.tar.gz",
        python_files={
            "train": tuple(f"cifar-10-batches-py/data_batch_{n}" for n in range(1, 6)),
            "test": ("cifar-10-batches-py/test_batch",),
        },
        labels=b"labels",
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
    100: cifar_files.Archives(
        binary_folder="cifar-100-binary",
        binary_archive="cifar-100-binary.tar.gz",
        binary_files={"train": ("train.bin",), "test": ("test.bin",)},
        label_bytes=2,  # coarse, fine
        python_archive="cifar-100-python.tar.gz",
        python_files={
            "train": ("cifar-100-python/train",),
            "test": ("cifar-100-python/test",),
        },
        labels=b"fine_labels",
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    ),
}


def load(split, data_dir=None, batch_size=128, *, classes=10, **options):
    """Batches of images `[batch, 32, 32, 3]` and labels.

    Args:
        split: `"train"`, `"validation"` or `"test"`.
        data_dir: folder of the binary version, unpacked or as its archive; or of the
            archive of the Python version, which must be the published one; or of an
            npz file with x_train, y_train, x_test and y_test; or of sheets of tiles
            (`image_files.read_sheets`). None downloads the Python version to where
            Keras keeps data sets.
        batch_size: int >= 1.
        classes: 10, or 100 for CIFAR-100 with its fine labels.
        **options: of `image_sets.load`, which says what is returned and raised.
    """
    return image_sets.load(images(classes), split, data_dir, batch_size, **options)


def images(classes):
    """The `ImageSet` of CIFAR-10 or CIFAR-100."""
    if classes not in _IMAGES:
        raise ValueError(f"`classes` must be 10 or 100. Received: classes={classes!r}")
    return _IMAGES[classes]


def _fetch(archives, part):
    # Not by keras.datasets: it unpickles what it finds unpacked, whatever that is.
    path = keras.utils.get_file(
        archives.python_archive,
        origin=_ORIGIN + archives.python_archive,
        file_hash=archives.sha256,
        hash_algorithm="sha256",
    )
    return archives.read_archive(path, part)


def _image_set(classes):
    archives = _ARCHIVES[classes]
    return image_sets.ImageSet(
        name=f"CIFAR-{classes}",
        image_shape=(32, 32, 3),
        classes=classes,
        examples=types.MappingProxyType({"train": 50_000, "test": 10_000}),
        readers=(
            *(archives.read_binary, archives.read_python),
            *(image_files.read_npz, image_files.read_sheets),
        ),
        fetch=functools.partial(_fetch, archives),
        files=(
            f"{archives.binary_archive} or what it holds, {archives.python_archive}, "
            "one npz file, or sheets of tiles"
        ),
    )


_IMAGES = {classes: _image_set(classes) for classes in _ARCHIVES}
