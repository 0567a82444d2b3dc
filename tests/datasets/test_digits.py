"""The digits: an honest split, the same twice, and a twin without scikit-learn."""

import numpy as np
import pytest
import tensorflow as tf

from datasets import digits


def arrays(dataset):
    images, labels = zip(*dataset.as_numpy_iterator())
    return np.concatenate(images), np.concatenate(labels)


def rows(images):
    """Images as hashable rows, sorted, to compare sets that may hold duplicates."""
    return sorted(map(bytes, images))


def test_the_split_is_a_partition_of_all_digits():
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    whole = sklearn_datasets.load_digits()
    train_images, train_labels = arrays(digits.load("train", seed=3))
    test_images, test_labels = arrays(digits.load("test", seed=3))
    assert len(train_images) == 500 and len(test_images) == 1797 - 500
    both = np.concatenate([train_images, test_images])
    expected = (whole.images / 16).astype(np.float32)[..., None]
    assert rows(both) == rows(expected)
    # Every image keeps its own label.
    pairs = zip(map(bytes, both), np.concatenate([train_labels, test_labels]))
    assert sorted(pairs) == sorted(zip(map(bytes, expected), whole.target))


@pytest.mark.parametrize("examples", [1, 500, 1796])
def test_indices_meet_nowhere(examples):
    train, test = digits.split_indices(seed=1, train_examples=examples)
    assert len(train) == examples
    assert sorted([*train, *test]) == list(range(digits.EXAMPLES))


def test_the_seed_draws_the_split():
    first, again = (digits.split_indices(5, 500)[0] for _ in range(2))
    other = digits.split_indices(6, 500)[0]
    np.testing.assert_array_equal(first, again)
    # Two draws of 500 from 1797 share 139 on average, and 500 only if alike.
    assert 90 < len(set(first) & set(other)) < 190


def test_a_seed_gives_the_same_batches_over_two_iterations():
    def two_iterations():
        tf.random.set_seed(7)
        dataset = digits.load("train", seed=2, max_shift=2)
        return [arrays(dataset) for _ in range(2)]

    first, again = two_iterations(), two_iterations()
    for (images, labels), (same_images, same_labels) in zip(first, again):
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_array_equal(labels, same_labels)
    # An iteration has an order and shifts of its own.
    assert not np.array_equal(first[0][1], first[1][1])
    assert rows(first[0][0]) != rows(first[1][0])


def test_the_test_part_is_never_shifted_nor_shuffled():
    plain = arrays(digits.load("test", seed=2))
    shifted = arrays(digits.load("test", seed=2, max_shift=2))
    np.testing.assert_array_equal(plain[0], shifted[0])
    np.testing.assert_array_equal(plain[1], shifted[1])


def test_shifts_are_whole_and_reach_every_offset():
    image = np.zeros((1, 8, 8, 1), np.float32)
    image[0, 4, 3] = 1.0
    batch = tf.constant(np.repeat(image, 400, axis=0))
    moved = digits._shift(batch, 1, tf.constant([1, 2], tf.int64)).numpy()
    assert moved.shape == batch.shape
    np.testing.assert_array_equal(moved.sum(axis=(1, 2, 3)), np.ones(400))
    places = {tuple(np.argwhere(one)[0][:2]) for one in moved}
    assert places == {(r, c) for r in (3, 4, 5) for c in (2, 3, 4)}


def test_what_is_shifted_out_is_lost_and_what_enters_is_blank():
    batch = tf.ones([64, 8, 8, 1])
    moved = digits._shift(batch, 2, tf.constant([0, 3], tf.int64)).numpy()
    sums = {round(float(one.sum())) for one in moved}
    assert sums <= {height * width for height in (6, 7, 8) for width in (6, 7, 8)}
    assert len(sums) > 2


@pytest.mark.parametrize("split", digits.SPLITS)
@pytest.mark.parametrize("max_shift", [0, 1])
def test_the_synthetic_twin_has_the_same_spec_and_size(split, max_shift):
    real = digits.load(split, batch_size=100, max_shift=max_shift)
    twin = digits.load(split, batch_size=100, max_shift=max_shift, synthetic=True)
    assert real.element_spec == twin.element_spec
    assert real.element_spec[0].shape.as_list() == [None, 8, 8, 1]
    images, labels = arrays(twin)
    assert len(images) == len(arrays(real)[0])
    assert 0 <= images.min() and images.max() <= 1
    assert set(labels) == set(range(10))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"split": "valid"}, "`split` must be one of .*split='valid'"),
        ({"data_dir": "x"}, "`data_dir` must be left out.*data_dir='x'"),
        ({"batch_size": 0}, "`batch_size` must be at least 1.*batch_size=0"),
        ({"seed": -1}, "`seed` must be at least 0.*seed=-1"),
        ({"train_examples": 1797}, "from 1 to 1796.*train_examples=1797"),
        ({"max_shift": 8}, "`max_shift` must be from 0 to 7.*max_shift=8"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        digits.load(**{"split": "train", **change})
