"""Street View House Numbers, cropped: digits in colour images of 32 x 32 pixels.

73,257 images to train, 531,131 easier ones to train besides, 26,032 to test. Netzer et
al. 2011, Reading digits in natural images with unsupervised feature learning.

    train = load("train", data_dir, 128, extra=True, pixels="unit", epochs=None)
"""

import functools
import types
from pathlib import Path

import numpy as np

from datasets import image_files, image_sets

# What SciPy raises of a damaged file, depending on where the damage is.
_UNREADABLE = (TypeError, KeyError, IndexError, NotImplementedError)
_EXAMPLES = {"train": 73_257, "extra": 531_131, "test": 26_032}


def load(split, data_dir=None, batch_size=128, *, extra=False, **options):
    """Batches of images `[batch, 32, 32, 3]` and labels, the digits themselves.

    Args:
        split: `"train"`, `"validation"` or `"test"`.
        data_dir: folder of train_32x32.mat and test_32x32.mat, with `extra` also of
            extra_32x32.mat; or of an npz file with x_train, y_train, x_test and y_test
            (then `extra` must be False). None asks TensorFlow Datasets.
        batch_size: int >= 1.
        extra: bool, train on the extra images as well; they take 1.6 GB.
        **options: of `image_sets.load`, which says what is returned and raised.
    """
    return image_sets.load(images(extra), split, data_dir, batch_size, **options)


def images(extra=False):
    """The `ImageSet`, with the extra images in the training part or without."""
    return _IMAGES[bool(extra)]


def _read_mat(published, folder, part, image_set):
    paths = [Path(folder) / f"{name}_32x32.mat" for name in published[part]]
    if not paths[0].exists():
        return None
    return _joined([_mat(path) for path in paths], " and ".join(map(str, paths)))


def _joined(found, path):
    digits, labels = (np.concatenate(arrays) for arrays in zip(*found))
    return image_files.Found(digits, labels, path)


def _mat(path):
    try:
        from scipy import io
    except ImportError as error:
        raise ImportError(
            "The .mat files are read by SciPy, which is not installed: "
            "pip install -e '.[recipes]'"
        ) from error
    try:
        with image_files.readable(path, "a .mat file"):
            found = io.loadmat(str(path))
    except _UNREADABLE + (io.matlab.MatReadError,) as error:
        rule = "be a .mat file that is whole"
        raise image_files.bad_file(path, rule, repr(error)) from error
    if not {"X", "y"} <= found.keys() or found["X"].ndim != 4:
        rule = "hold X, the images in four dimensions, and y, the labels"
        names = sorted(name for name in found if not name.startswith("_"))
        raise image_files.bad_file(path, rule, names)
    digits = np.ascontiguousarray(found["X"].transpose(3, 0, 1, 2))
    labels = found["y"].ravel()
    if labels.dtype.kind not in "iuf" or np.any(labels != np.floor(labels)):
        rule = "hold labels that are whole numbers"
        raise image_files.bad_file(path, rule, f"{labels.dtype} {labels[:3]}")
    labels = labels.astype(np.int64)
    if len(labels) and not 1 <= labels.min() <= labels.max() <= 10:
        rule = "hold labels from 1 to 10, which stands for the digit 0"
        shown = f"labels from {labels.min()} to {labels.max()}"
        raise image_files.bad_file(path, rule, shown)
    return digits, labels % 10


def _fetch(published, part):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "SVHN is downloaded by TensorFlow Datasets, which is not installed: pip "
            "install tensorflow-datasets, or give `data_dir` with the .mat files"
        ) from error
    found = [
        tfds.as_numpy(
            tfds.load("svhn_cropped", split=name, batch_size=-1, as_supervised=True)
        )
        for name in published[part]
    ]
    return _joined(found, "svhn_cropped of TensorFlow Datasets")


def _image_set(extra):
    published = {
        "train": ("train", "extra") if extra else ("train",),
        "test": ("test",),
    }
    readers = (functools.partial(_read_mat, published),)
    return image_sets.ImageSet(
        name="SVHN with its extra images" if extra else "SVHN",
        image_shape=(32, 32, 3),
        classes=10,
        examples=types.MappingProxyType(
            {
                part: sum(_EXAMPLES[name] for name in names)
                for part, names in published.items()
            }
        ),
        # An npz file does not say which of its images are the extra ones.
        readers=readers if extra else (*readers, image_files.read_npz),
        fetch=functools.partial(_fetch, published),
        files="its .mat files" if extra else "its .mat files, or one npz file",
    )


_IMAGES = {extra: _image_set(extra) for extra in (False, True)}
