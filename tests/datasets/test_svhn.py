"""SVHN as published, small files made here; damaged ones; TensorFlow Datasets."""

import dataclasses
import sys
import types

import numpy as np
import pytest

from datasets import image_sets, svhn
from tests.small_image_sets import SIZES, assert_reads, both_parts, drawn, small


def write_mat(folder, name, images, digits):
    mat_files = pytest.importorskip("scipy.io")
    labels = np.where(digits == 0, 10, digits)[:, None].astype(np.uint8)
    images = images.transpose(1, 2, 3, 0)
    mat_files.savemat(
        folder / f"{name}_32x32.mat", {"X": images, "y": labels}, do_compression=True
    )


def test_mat_files_with_extra_images_and_without(tmp_path):
    parts = both_parts(svhn.images())
    more = drawn(svhn.images(), "train", seed=1)
    for name, arrays in {**parts, "extra": more}.items():
        write_mat(tmp_path, name, *arrays)
    assert_reads(small(svhn.images()), tmp_path, parts)
    joined = dataclasses.replace(
        svhn.images(extra=True), examples={"train": 20, "test": 4}
    )
    both = tuple(map(np.concatenate, zip(parts["train"], more)))
    assert_reads(joined, tmp_path, {"train": both, "test": parts["test"]})
    (tmp_path / "extra_32x32.mat").unlink()
    with pytest.raises(FileNotFoundError, match="extra_32x32.mat"):
        image_sets.read(joined, "train", tmp_path)


def test_bad_mat_files_are_named(tmp_path):
    mat_files = pytest.importorskip("scipy.io")
    path = tmp_path / "test_32x32.mat"
    mat_files.savemat(path, {"Z": np.zeros(2)})
    with pytest.raises(ValueError, match=r"hold X, .* Received: \['Z'\]"):
        image_sets.read(small(svhn.images()), "test", tmp_path)
    images, digits = drawn(svhn.images(), "test")
    write_mat(tmp_path, "test", images, digits + 11)
    with pytest.raises(ValueError, match="1 to 10, which stands for the digit 0"):
        image_sets.read(small(svhn.images()), "test", tmp_path)
    halves = {"X": images.transpose(1, 2, 3, 0), "y": digits + 0.5}
    mat_files.savemat(path, halves)
    with pytest.raises(ValueError, match="labels that are whole numbers"):
        image_sets.read(small(svhn.images()), "test", tmp_path)
    for size in (0, 100, 200, 1000):
        write_mat(tmp_path, "test", images, digits)
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(ValueError, match="test_32x32.mat must "):
            image_sets.read(small(svhn.images()), "test", tmp_path)


def test_tensorflow_datasets_bring_svhn_where_there_is_no_folder(monkeypatch):
    parts = {**both_parts(svhn.images()), "extra": drawn(svhn.images(), "train", 1)}

    def load(name, split, batch_size, as_supervised):
        assert (name, batch_size, as_supervised) == ("svhn_cropped", -1, True)
        return parts[split]

    fake = types.SimpleNamespace(load=load, as_numpy=lambda arrays: arrays)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake)
    expected = {part: parts[part] for part in SIZES}
    assert_reads(small(svhn.images()), None, expected)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="pip install tensorflow-datasets"):
        image_sets.read(small(svhn.images()), "train")
