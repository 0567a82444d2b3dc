"""CIFAR as published, small files made here; damaged ones; and no pickles."""

import dataclasses
import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest

from datasets import cifar, cifar_files, image_sets
from ensemble_heads.keras_api import keras
from tests.small_image_sets import assert_reads, both_parts, small

COLOURS = small(cifar.images(10))


def records(images, labels, classes):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    coarse = [] if classes == 10 else [labels[:, None] // 5]
    return np.concatenate([*coarse, labels[:, None], planes], axis=1).tobytes()


def binary_files(classes, parts):
    """{name: bytes}"""
    if classes == 100:
        return {f"{p}.bin": records(*arrays, 100) for p, arrays in parts.items()}
    images, labels = parts["train"]
    found = {
        f"data_batch_{i + 1}.bin": records(images[2 * i :][:2], labels[2 * i :][:2], 10)
        for i in range(5)
    }
    return found | {"test_batch.bin": records(*parts["test"], 10)}


def tar(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("form", ["here", "below", "archive"])
def test_the_binary_version(tmp_path, classes, form):
    image_set = small(cifar.images(classes))
    parts = both_parts(image_set)
    files = binary_files(classes, parts)
    folder = {10: "cifar-10-batches-bin", 100: "cifar-100-binary"}[classes]
    if form == "archive":
        inside = {f"{folder}/{name}": data for name, data in files.items()}
        (tmp_path / f"cifar-{classes}-binary.tar.gz").write_bytes(tar(inside))
    else:
        where = tmp_path if form == "here" else tmp_path / folder
        where.mkdir(exist_ok=True)
        for name, data in files.items():
            (where / name).write_bytes(data)
    assert_reads(image_set, tmp_path, parts)


def test_bad_binary_files_are_named(tmp_path):
    files = binary_files(10, both_parts(COLOURS))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "data_batch_3.bin").write_bytes(files["data_batch_3.bin"][:-1])
    with pytest.raises(ValueError, match="batch_3.bin must hold records of 3073 bytes"):
        image_sets.read(COLOURS, "train", tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(ValueError, match="data_batch_3.bin must exist"):
        image_sets.read(COLOURS, "train", tmp_path)
    (tmp_path / "data_batch_3.bin").mkdir()
    with pytest.raises(ValueError, match="data_batch_3.bin must be a file of records"):
        image_sets.read(COLOURS, "train", tmp_path)


def test_a_link_to_itself_in_an_archive_is_named(tmp_path):
    link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
    link.type, link.linkname = tarfile.SYMTYPE, "test_batch.bin"
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.addfile(link)
    with pytest.raises(ValueError, match="be an archive that holds .*test_batch.bin"):
        image_sets.read(COLOURS, "test", tmp_path)


@pytest.mark.parametrize(
    "data, message",
    [
        (tar({"other": b"x"}), "be an archive that holds .*test_batch.bin"),
        (tar({"cifar-10-batches-bin/test_batch.bin": b"x" * 10})[:-30], "must be a"),
        (b"no archive", "must be an archive"),
    ],
    ids=["other files", "cut short", "no archive"],
)
def test_bad_archives_are_named(tmp_path, data, message):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(data)
    with pytest.raises(
        ValueError, match=rf"cifar-10-binary.tar.gz {message}|{message}"
    ):
        image_sets.read(COLOURS, "test", tmp_path)


def pickled_files(classes, parts):
    """{name in the archive: bytes}, as the Python version has them."""

    def batch(images, labels):
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        key = b"labels" if classes == 10 else b"fine_labels"
        found = {b"data": planes, key: labels.tolist(), b"coarse_labels": [0]}
        return pickle.dumps(found, protocol=4)

    images, labels = parts["train"]
    if classes == 100:
        files = {p: batch(*arrays) for p, arrays in parts.items()}
        return {f"cifar-100-python/{name}": data for name, data in files.items()}
    files = {
        f"data_batch_{i + 1}": batch(images[2 * i :][:2], labels[2 * i :][:2])
        for i in range(5)
    }
    files["test_batch"] = batch(*parts["test"])
    return {f"cifar-10-batches-py/{name}": data for name, data in files.items()}


def accepting(monkeypatch, classes, data):
    """An `ImageSet` for which `data` is the published archive."""
    digest = hashlib.sha256(data).hexdigest()
    archives = dataclasses.replace(cifar._ARCHIVES[classes], sha256=digest)
    monkeypatch.setitem(cifar._ARCHIVES, classes, archives)
    return small(cifar._image_set(classes))


@pytest.mark.parametrize("classes", [10, 100])
def test_the_python_version_from_a_folder_and_downloaded(
    tmp_path, monkeypatch, classes
):
    parts = both_parts(small(cifar.images(classes)))
    data = tar(pickled_files(classes, parts))
    path = tmp_path / f"cifar-{classes}-python.tar.gz"
    path.write_bytes(data)
    image_set = accepting(monkeypatch, classes, data)
    assert_reads(image_set, tmp_path, parts)

    def get_file(name, origin, file_hash, hash_algorithm):
        assert origin.endswith(f"/{name}") and name == path.name
        assert (file_hash, hash_algorithm) == (
            hashlib.sha256(data).hexdigest(),
            "sha256",
        )
        return str(path)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert_reads(image_set, None, parts)


def harmful_archive():
    return tar({"cifar-10-batches-py/test_batch": b"cos\nsystem\n(S'true'\ntR."})


def test_an_archive_of_another_checksum_is_not_unpickled(tmp_path, monkeypatch):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(harmful_archive())
    monkeypatch.setattr(cifar_files, "_unpickle", None)  # a call would be an error
    with pytest.raises(ValueError, match="published archive, of SHA-256 6d958be.*Rece"):
        image_sets.read(COLOURS, "test", tmp_path)


def test_the_unpickler_refuses_all_but_arrays(tmp_path, monkeypatch):
    data = harmful_archive()
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(data)
    image_set = accepting(monkeypatch, 10, data)
    with pytest.raises(pickle.UnpicklingError, match="os.system is not of an array"):
        image_sets.read(image_set, "test", tmp_path)


def test_unpacked_pickles_are_refused(tmp_path):
    for classes, name in ((10, "cifar-10-batches-py"), (100, "cifar-100-python")):
        (tmp_path / name).mkdir()
        with pytest.raises(ValueError, match=f"the folder {name} without it"):
            cifar.load("test", tmp_path, classes=classes)
