"""Batches of images: order, crops, splits, scale, and starting in the middle."""

import numpy as np
import pytest
import tensorflow as tf

from datasets import cifar, fashion_mnist, image_batches, image_sets, svhn

SYNTHETIC = 60  # training images, and 12 to test


def load(split="train", batch_size=8, **options):
    options = {"synthetic": SYNTHETIC, **options}
    return cifar.load(split, batch_size=batch_size, **options)


def flat(dataset):
    """[(images, labels) of every batch] as NumPy."""
    return [(images, labels) for images, labels in dataset.as_numpy_iterator()]


def numbers(dataset):
    return [inputs["number"].tolist() for inputs, _ in dataset.as_numpy_iterator()]


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


def test_splits_are_a_partition_and_share_one_count():
    options = {"numbered": True, "validation_examples": 20, "seed": 3}
    train = sum(numbers(load("train", **options)), [])
    validation = sum(numbers(load("validation", **options)), [])
    assert len(train) == 40 and validation == sorted(validation)
    assert sorted(train + validation) == list(range(SYNTHETIC))
    other = sum(numbers(load("validation", **{**options, "seed": 4})), [])
    assert other != validation


@pytest.mark.parametrize("held_out, expected", [(7, [4, 2, 1]), (14, [8, 4, 2])])
def test_every_class_gives_its_share_of_the_validation_part(held_out, expected):
    labels = np.array([0] * 40 + [2] * 10 + [1] * 20)[np.random.permutation(70)]
    train, validation = image_sets.split_indices(labels, held_out, seed=5)
    assert np.bincount(labels[validation]).tolist() == expected
    assert sorted([*train, *validation]) == list(range(70))


def test_shares_that_are_not_whole_are_rounded_by_the_largest_remainders():
    labels = np.repeat([0, 1, 2], [5, 3, 2])
    _, validation = image_sets.split_indices(labels, 3, seed=0)
    # Quotas 1.5, 0.9 and 0.6.
    assert np.bincount(labels[validation], minlength=3).tolist() == [1, 1, 1]


def test_images_keep_their_labels_and_their_numbers():
    images, labels = image_sets.arrays(cifar.images(10), "train", synthetic=SYNTHETIC)
    for inputs, found in load(numbered=True, pixels="unit").as_numpy_iterator():
        expected = images[inputs["number"]].astype(np.float32) / 255
        np.testing.assert_array_equal(inputs["images"], expected)
        np.testing.assert_array_equal(found, labels[inputs["number"]])


def test_epochs_have_orders_of_their_own_whatever_the_global_seed():
    def epochs(seed):
        tf.random.set_seed(seed)
        return numbers(load(numbered=True, epochs=3, batch_size=SYNTHETIC, seed=6))

    first = epochs(1)
    assert first == epochs(2)
    assert all(sorted(epoch) == list(range(SYNTHETIC)) for epoch in first)
    assert first[0] != first[1] != first[2] != first[0]
    other = numbers(load(numbered=True, batch_size=SYNTHETIC, seed=7))
    assert other[0] != first[0]


@pytest.mark.parametrize("drop_remainder", [False, True])
@pytest.mark.parametrize("epoch, batch", [(0, 3), (1, 0), (0, 17), (2, 7), (1, 40)])
def test_any_place_can_be_started_from(epoch, batch, drop_remainder):
    options = {"epochs": 5, "augment": True, "numbered": True, "seed": 8}
    options["drop_remainder"] = drop_remainder
    whole = flat(load(**options))
    per_epoch = 7 if drop_remainder else 8
    assert len(whole) == 5 * per_epoch
    rest = load(**options, start_epoch=epoch, start_batch=batch)
    skipped = min(epoch * per_epoch + batch, len(whole))
    assert rest.cardinality() == len(whole) - skipped
    assert_equal(flat(rest), whole[skipped:])


def test_without_an_end_it_goes_on():
    endless = load(epochs=None, numbered=True)
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY
    expected = numbers(load(epochs=2, numbered=True))
    assert numbers(endless.take(16)) == expected


def test_crops_depend_on_the_image_and_not_on_its_batch():
    """A resumed run at another batch size, or in another order, sees the same."""

    def by_number(**options):
        dataset = load(augment=True, numbered=True, seed=9, **options)
        return {
            int(number): image
            for inputs, _ in dataset.as_numpy_iterator()
            for number, image in zip(inputs["number"], inputs["images"])
        }

    first, ordered = by_number(), by_number(shuffle=False, batch_size=25)
    assert sorted(first) == sorted(ordered) == list(range(SYNTHETIC))
    for number, image in first.items():
        np.testing.assert_array_equal(image, ordered[number])
    later = by_number(start_epoch=1, epochs=2)
    same = [np.array_equal(later[n], first[n]) for n in first]
    assert sum(same) < 6  # of 162 ways one


def test_every_crop_is_cut_where_its_number_says():
    random = np.random.default_rng(0)
    images = random.integers(1, 256, (162, 6, 5, 3)).astype(np.uint8)
    found = image_batches.crop_and_mirror(images, tf.range(162)).numpy()
    for crop in range(162):
        row, column, mirrored = crop // 18, crop // 2 % 9, crop % 2
        padded = np.pad(images[crop], [(4, 4), (4, 4), (0, 0)])
        expected = padded[row : row + 6, column : column + 5]
        if mirrored:
            expected = expected[:, ::-1]
        np.testing.assert_array_equal(found[crop], expected)


def test_all_crops_come_about_equally_often():
    dataset = load(augment=True, pixels="unit", epochs=100, batch_size=SYNTHETIC)
    images, _ = image_sets.arrays(cifar.images(10), "train", synthetic=SYNTHETIC)
    whole, blank_rows = 0, np.zeros(9)
    for batch, _ in dataset.as_numpy_iterator():
        empty = (batch == 0).all(axis=(2, 3))
        above = empty.argmin(axis=1)
        below = empty[:, ::-1].argmin(axis=1)
        blank_rows += np.bincount(4 + above - below, minlength=9)
        whole += len(batch)
    np.testing.assert_allclose(blank_rows / whole, np.full(9, 1 / 9), atol=0.02)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_only_training_images_are_cropped_and_shuffled(split):
    options = {"numbered": True, "validation_examples": 20}
    plain = flat(load(split, **options))
    assert_equal(plain, flat(load(split, augment=True, **options)))
    shown = numbers(load(split, **options))
    assert sum(shown, []) == sorted(sum(shown, []))


def test_standardised_channels_have_mean_zero_and_deviation_one():
    images = np.concatenate([images for images, _ in flat(load())]).astype(np.float64)
    np.testing.assert_allclose(images.mean(axis=(0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(images.std(axis=(0, 1, 2)), 1.0, atol=1e-5)


def test_the_test_part_is_scaled_by_the_training_part():
    train, _ = image_sets.arrays(cifar.images(10), "train", synthetic=SYNTHETIC)
    test, _ = image_sets.arrays(cifar.images(10), "test", synthetic=SYNTHETIC)
    # The validation part is of the published training images.
    options = {"split": "test", "batch_size": 12, "validation_examples": 20}
    ((found, _),) = flat(load(**options))
    deviations = train.std(axis=(0, 1, 2), dtype=np.float64)
    expected = (test - train.mean(axis=(0, 1, 2))) / deviations
    np.testing.assert_allclose(found, expected, atol=1e-5)
    ((found, _),) = flat(load(**options, pixels="centred"))
    np.testing.assert_allclose(found, test - train.mean(axis=0), atol=1e-4)


def test_a_channel_of_one_level_is_not_divided_by_zero(tmp_path):
    images, labels = np.full((4, 32, 32, 3), 7, np.uint8), np.zeros(4, int)
    np.savez(tmp_path / "mine", x_train=images, y_train=labels)
    ((found, _),) = flat(cifar.load("train", tmp_path))
    np.testing.assert_array_equal(found, np.zeros((4, 32, 32, 3)))


def test_full_batches_have_a_static_size():
    spec = load(drop_remainder=True, numbered=True).element_spec
    assert spec[0]["images"].shape == (8, 32, 32, 3)
    assert spec[0]["number"].shape == spec[1].shape == (8,)


@pytest.mark.parametrize(
    "module, options, shape, classes",
    [
        (fashion_mnist, {}, (28, 28, 1), 10),
        (cifar, {}, (32, 32, 3), 10),
        (cifar, {"classes": 100}, (32, 32, 3), 100),
        (svhn, {"extra": True}, (32, 32, 3), 10),
    ],
)
def test_made_up_images_can_be_learned(module, options, shape, classes):
    """Nearest class means of the training part tell the test part."""
    parts = [
        module.load(split, batch_size=1000, synthetic=1000, **options)
        for split in ("train", "test")
    ]
    for part in parts:
        assert part.element_spec[0] == tf.TensorSpec([None, *shape], tf.float32)
        assert part.element_spec[1] == tf.TensorSpec([None], tf.int64)
    ((images, labels),), ((test_images, test_labels),) = map(flat, parts)
    assert set(labels) == set(range(classes)) == set(test_labels)
    means = np.stack([images[labels == c].mean(axis=0) for c in range(classes)])
    distances = ((test_images[:, None] - means) ** 2).sum(axis=(2, 3, 4))
    assert (distances.argmin(axis=1) == test_labels).mean() > 0.9


@pytest.mark.parametrize(
    "change, message",
    [
        ({"split": "valid"}, "`split` must be one of .*split='valid'"),
        ({"pixels": "white"}, "`pixels` must be one of .*pixels='white'"),
        ({"classes": 20}, "`classes` must be 10 or 100.*classes=20"),
        ({"batch_size": 0}, "`batch_size` must be at least 1.*batch_size=0"),
        ({"epochs": 0}, "`epochs` must be at least 1, or None for no end"),
        ({"seed": -1}, "`seed` must be at least 0.*seed=-1"),
        ({"start_batch": -1}, "`start_batch` must be at least 0"),
        ({"split": "validation"}, "from 1 to below 60.*validation_examples=0"),
        ({"validation_examples": 60}, "from 0 to below 60.*validation_examples=60"),
        ({"validation_examples": 61}, "at most 60.*validation_examples=61"),
        ({"batch_size": 61, "drop_remainder": True}, "at most the 60.*batch_size=61"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        load(**{"split": "train", **change})


@pytest.mark.parametrize("drop_remainder", [False, True])
def test_shares_of_workers_make_up_every_batch(drop_remainder):
    options = {"epochs": 2, "seed": 3, "augment": True, "numbered": True}
    options |= {"batch_size": 14, "drop_remainder": drop_remainder}  # 4 are left over
    whole = list(load(**options).as_numpy_iterator())
    shares = [load(share=(i, 3), **options) for i in range(3)]
    for batch, *parts in zip(whole, *(s.as_numpy_iterator() for s in shares)):
        sizes = [len(labels) for _, labels in parts]
        assert max(sizes) - min(sizes) <= 1 and sum(sizes) == len(batch[1])
        joined = tf.nest.map_structure(lambda *rows: np.concatenate(rows), *parts)
        tf.nest.map_structure(np.testing.assert_array_equal, joined, batch)
    assert len(whole) == 10 - 2 * drop_remainder
    known = [share.element_spec[1].shape[0] for share in shares]
    assert known == ([4, 5, 5] if drop_remainder else [None] * 3)


@pytest.mark.parametrize("share", [(3, 3), (-1, 2), (0, 0)])
def test_shares_that_there_are_not(share):
    with pytest.raises(ValueError, match="`share` must be"):
        load(share=share)
