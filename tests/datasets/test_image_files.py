"""Small images in idx, npz and sheets, made here; damaged ones; the real data."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from datasets import cifar, fashion_mnist, image_batches, image_files, image_sets
from ensemble_heads.keras_api import keras
from tests.small_image_sets import assert_reads, both_parts, small

# Fashion-MNIST: idx

CLOTHES = small(fashion_mnist.IMAGES)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_idx(folder, parts, compressed=True):
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = parts[part]
        for name, array in (
            (f"{prefix}-images-idx3-ubyte", images[..., 0]),
            (f"{prefix}-labels-idx1-ubyte", labels),
        ):
            data = idx(array)
            path = folder / (f"{name}.gz" if compressed else name)
            path.write_bytes(gzip.compress(data) if compressed else data)


@pytest.mark.parametrize("compressed", [True, False])
def test_idx_files(tmp_path, compressed):
    parts = both_parts(CLOTHES)
    write_idx(tmp_path, parts, compressed)
    assert_reads(CLOTHES, tmp_path, parts)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda data: data[:-1], r"train-images\S* must hold 7840 bytes.*7839 bytes"),
        (lambda data: data + b"x", "must hold 7840 bytes.*Received: 7841 bytes"),
        (
            lambda data: b"\0\0\x0d\3" + data[4:],
            "starting 00000803.*Received: 00000d03",
        ),
        (lambda data: data[:10], "hold the 16 bytes .* begins with. Received: 10 byt"),
        (lambda data: b"", "Received: an empty file"),
        (lambda data: idx(np.zeros((9, 28, 28), np.uint8)), "9 images, 10 labels"),
        (lambda data: idx(np.zeros((10, 14, 56), np.uint8)), r"shape \(28, 28, 1\)"),
    ],
)
def test_bad_idx_files_are_named(tmp_path, change, message):
    write_idx(tmp_path, both_parts(CLOTHES), compressed=False)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        image_sets.read(CLOTHES, "train", tmp_path)


def test_a_gzip_file_cut_short_is_named(tmp_path):
    write_idx(tmp_path, both_parts(CLOTHES))
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"t10k-images\S* must be a gzip file that is"):
        image_sets.read(CLOTHES, "test", tmp_path)
    assert len(image_sets.read(CLOTHES, "train", tmp_path)[1]) == 10


def test_labels_beyond_the_classes_are_refused(tmp_path):
    parts = both_parts(CLOTHES)
    parts["test"][1][2] = 10
    write_idx(tmp_path, parts)
    with pytest.raises(ValueError, match="labels from 0 to 9. Received: labels from"):
        image_sets.read(CLOTHES, "test", tmp_path)


def test_published_files_hold_the_published_number(tmp_path):
    write_idx(tmp_path, both_parts(CLOTHES))
    with pytest.raises(ValueError, match="the 60000 images of the train part.* 10 im"):
        image_sets.read(fashion_mnist.IMAGES, "train", tmp_path)


def test_published_files_hold_all_classes(tmp_path):
    """CIFAR-10 and CIFAR-100 are of one size, and their files may have one name."""
    images, labels = np.zeros((10_000, 32, 32, 3), np.uint8), np.arange(10_000) % 10
    np.savez(tmp_path / "cifar.npz", x_test=images, y_test=labels)
    _, found = image_sets.read(cifar.images(10), "test", tmp_path)
    assert found.tolist() == labels.tolist()
    said = "hold images of all 100 classes of CIFAR-100. Received: labels of 10 classes"
    with pytest.raises(ValueError, match=said):
        image_sets.read(cifar.images(100), "test", tmp_path)


def test_images_without_labels_are_refused(tmp_path):
    write_idx(tmp_path, both_parts(CLOTHES))
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match="have the file of the labels beside it"):
        image_sets.read(CLOTHES, "train", tmp_path)


def test_folders_without_anything_say_what_they_may_hold(tmp_path):
    with pytest.raises(FileNotFoundError, match="idx files, one npz file, or sheets"):
        fashion_mnist.load("train", tmp_path)
    with pytest.raises(FileNotFoundError, match="`data_dir` must exist.*absent"):
        fashion_mnist.load("train", tmp_path / "absent")


def test_keras_brings_the_data_where_there_is_no_folder(monkeypatch):
    parts = both_parts(CLOTHES)
    both = [(images[..., 0], labels) for images, labels in parts.values()]
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", lambda: both)
    assert_reads(CLOTHES, None, parts)


# npz and sheets, of any data set

COLOURS = small(cifar.images(10))


@pytest.mark.parametrize("named", ["folder", "file"])
def test_npz_files_of_any_number(tmp_path, named):
    parts = both_parts(cifar.images(10))
    arrays = {f"x_{part}": images for part, (images, _) in parts.items()}
    # Keras' data sets have a column of labels.
    arrays |= {f"y_{part}": labels[:, None] for part, (_, labels) in parts.items()}
    np.savez(tmp_path / "mine.npz", **arrays)
    path = tmp_path if named == "folder" else tmp_path / "mine.npz"
    assert_reads(cifar.images(10), path, parts)
    ((images, labels),) = cifar.load("test", path, pixels="unit").as_numpy_iterator()
    np.testing.assert_array_equal(images, parts["test"][0].astype(np.float32) / 255)
    np.testing.assert_array_equal(labels, parts["test"][1])


@pytest.mark.parametrize(
    "arrays, message",
    [
        (
            {"x_train": np.zeros(1)},
            r"hold x_train and y_train. Received: \['x_train'\]",
        ),
        (
            {"x_train": np.zeros((2, 32, 32, 3)), "y_train": np.zeros(2, int)},
            "images of uint8.*float64",
        ),
        (
            {"x_train": np.zeros((2, 32, 32, 3), "u1"), "y_train": np.zeros(2)},
            "one integer label per image. Received: float64",
        ),
        (
            {"x_train": np.zeros((0, 32, 32, 3), "u1"), "y_train": np.zeros(0, int)},
            "and some. Received: 0 images",
        ),
        (
            {"x_train": np.array([{}]), "y_train": np.zeros(1, int)},
            "an npz file of numbers that is whole.*allow_pickle",
        ),
    ],
)
def test_bad_npz_files_are_named(tmp_path, arrays, message):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ValueError, match=rf"(?s)mine.npz must .*{message}"):
        image_sets.read(COLOURS, "train", tmp_path)


def test_an_npy_file_by_another_name_is_no_npz_file(tmp_path):
    with open(tmp_path / "mine.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="mine.npz must be an npz file.*no zip"):
        image_sets.read(COLOURS, "train", tmp_path)


def test_two_npz_files_are_one_too_many(tmp_path):
    for name in ("a", "b"):
        np.savez(tmp_path / name, x_train=np.zeros(1))
    with pytest.raises(
        ValueError, match=r"one npz file. Received: \['a.npz', 'b.npz'\]"
    ):
        image_sets.read(COLOURS, "train", tmp_path)


def write_sheets(folder, parts, suffix):
    image = pytest.importorskip("PIL.Image")
    for part, columns in (("train", 5), ("test", 2)):
        images, labels = parts[part]
        for number, tiles in enumerate((images[: 2 * columns], images[2 * columns :])):
            if len(tiles):
                rows = [
                    np.concatenate(row, 1)
                    for row in tiles.reshape(-1, columns, 32, 32, 3)
                ]
                sheet = image.fromarray(np.concatenate(rows))
                path = folder / f"{part}_{number:02d}{suffix}"
                sheet.save(path, **({"lossless": True} if suffix == ".webp" else {}))
        np.save(folder / f"{part}_labels.npy", labels)


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_sheets_of_tiles(tmp_path, suffix):
    parts = both_parts(COLOURS)
    write_sheets(tmp_path, parts, suffix)
    assert_reads(COLOURS, tmp_path, parts)


def test_sheets_come_in_the_order_of_their_numbers(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for number in range(12):
        tile = np.full((32, 32, 3), number, np.uint8)
        image.fromarray(tile).save(tmp_path / f"train_{number}.png")
    np.save(tmp_path / "train_labels.npy", np.arange(12))
    found = image_files.read_sheets(tmp_path, "train", COLOURS)
    np.testing.assert_array_equal(found.images[:, 0, 0, 0], found.labels)


def test_bad_sheets_are_named(tmp_path):
    image = pytest.importorskip("PIL.Image")
    write_sheets(tmp_path, both_parts(COLOURS), ".png")
    image.fromarray(np.zeros((64, 65, 3), np.uint8)).save(tmp_path / "test_00.png")
    with pytest.raises(ValueError, match="tiles of 32 x 32 pixels. Received: 64 x 65"):
        image_sets.read(COLOURS, "test", tmp_path)
    (tmp_path / "test_00.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="test_00.png must be an image that is whole"):
        image_sets.read(COLOURS, "test", tmp_path)
    (tmp_path / "train_labels.npy").unlink()
    with pytest.raises(ValueError, match="train_labels.npy must exist"):
        image_sets.read(COLOURS, "train", tmp_path)


# Real data, where they are


@pytest.mark.parametrize(
    "image_set, folder, train_labels, test_labels, mean, deviation",
    [
        (
            *(fashion_mnist.IMAGES, "fashion_mnist"),
            *([9, 0, 0, 3, 0, 2, 7, 2, 5, 5], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
            *([0.2860], [0.3530]),
        ),
        (
            *(cifar.images(10), "cifar10"),
            *([6, 9, 9, 4, 1, 1, 2, 7, 8, 3], [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]),
            *([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
        ),
    ],
)
def test_the_real_data_are_what_everybody_has(
    data_dir, image_set, folder, train_labels, test_labels, mean, deviation
):
    """Labels and statistics that many a paper and program gives."""
    if not (data_dir / folder).exists():
        pytest.skip(f"no folder {folder}")
    images, labels = image_sets.arrays(image_set, "train", data_dir / folder)
    assert np.bincount(labels).tolist() == [image_set.examples["train"] // 10] * 10
    assert labels[:10].tolist() == train_labels
    statistics = image_batches.channel_statistics(images)
    for found, expected in zip(statistics, (mean, deviation)):
        np.testing.assert_allclose(found / 255, expected, atol=6e-5)
    images, labels = image_sets.arrays(image_set, "test", data_dir / folder)
    assert np.bincount(labels).tolist() == [1000] * 10
    assert labels[:10].tolist() == test_labels


def test_the_real_fashion_mnist_to_the_last_pixel(data_dir):
    if not (data_dir / "fashion_mnist").exists():
        pytest.skip("no folder fashion_mnist")
    folder = data_dir / "fashion_mnist"
    images, _ = image_sets.arrays(fashion_mnist.IMAGES, "test", folder)
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    assert digest.startswith("c867c93ff95360594e8ec3287995350b")
