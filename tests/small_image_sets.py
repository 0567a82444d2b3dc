"""Image data sets of ten and four images, to be written in the forms published."""

import dataclasses

import numpy as np

from datasets import image_sets

SIZES = {"train": 10, "test": 4}


def small(image_set, **changes):
    """An `ImageSet` that was published with ten images to train and four to test."""
    return dataclasses.replace(image_set, examples=SIZES, **changes)


def drawn(image_set, part, seed=0):
    random = np.random.default_rng([seed, len(part)])
    shape = (SIZES[part], *image_set.image_shape)
    images = random.integers(0, 256, shape).astype(np.uint8)
    labels = random.integers(0, image_set.classes, SIZES[part]).astype(np.uint8)
    return images, labels


def assert_reads(image_set, folder, expected):
    for part, (images, labels) in expected.items():
        found, found_labels = image_sets.read(image_set, part, folder)
        np.testing.assert_array_equal(found, images)
        np.testing.assert_array_equal(found_labels, labels)
        assert found.dtype == np.uint8 and found_labels.dtype == np.int64


def both_parts(image_set):
    return {part: drawn(image_set, part) for part in SIZES}
