"""Fashion-MNIST: 60,000 and 10,000 grey images of 28 x 28 pixels, ten kinds of clothes.

Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747.

    train = load("train", data_dir, 100, epochs=None, validation_examples=10_000)
    model.fit(train, steps_per_epoch=500)
"""

import types

from datasets import image_files, image_sets
from ensemble_heads.keras_api import keras

CLASS_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def load(split, data_dir=None, batch_size=128, **options):
    """Batches of images `[batch, 28, 28, 1]` and labels.

    Args:
        split: `"train"`, `"validation"` or `"test"`.
        data_dir: folder of the four idx files, gzipped or not, or of an npz file with
            x_train, y_train, x_test and y_test; None asks `keras.datasets`.
        batch_size: int >= 1.
        **options: of `image_sets.load`, which says what is returned and raised.
    """
    return image_sets.load(IMAGES, split, data_dir, batch_size, **options)


def _fetch(part):
    both = keras.datasets.fashion_mnist.load_data()
    images, labels = both[("train", "test").index(part)]
    return image_files.Found(images, labels, "keras.datasets.fashion_mnist")


IMAGES = image_sets.ImageSet(
    name="Fashion-MNIST",
    image_shape=(28, 28, 1),
    classes=10,
    examples=types.MappingProxyType({"train": 60_000, "test": 10_000}),
    readers=(image_files.read_idx, image_files.read_npz, image_files.read_sheets),
    fetch=_fetch,
    files="its idx files, one npz file, or sheets of tiles",
)
