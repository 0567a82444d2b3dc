"""Which files a user means: names, globs, ranges, and folders of any name."""

from pathlib import Path

import pytest

from datasets import shard_files


@pytest.fixture
def folder(tmp_path):
    for name in ("train0.tfrecord", "train1.tfrecord", "validate0.tfrecord"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(paths):
    return [Path(path).name for path in paths]


def test_files_by_name_glob_and_range(folder):
    for files in (
        *("train?.tfrecord", "train{0..1}.tfrecord", Path("train*.tfrecord")),
        ["train1.tfrecord", Path("train0.tfrecord"), "train0.tfrecord"],
    ):
        found = shard_files.named(files, folder)
        assert names(found) == ["train0.tfrecord", "train1.tfrecord"], files
    alone = shard_files.named(folder / "validate0.tfrecord", None)
    assert alone == [str(folder / "validate0.tfrecord")]


@pytest.mark.parametrize("wrong", ["validte*.tfrecord", "train{0..2}.tfrecord"])
def test_each_name_must_be_there_whatever_others_are(folder, wrong):
    with pytest.raises(FileNotFoundError, match="`files` must exist. Received"):
        shard_files.named(["train*.tfrecord", wrong], folder)


def test_the_home_folder_and_names_that_look_like_globs(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert shard_files.prefix("~/") == f"{folder}/"
    assert names(shard_files.named("~/train0.tfrecord", None)) == ["train0.tfrecord"]
    odd = folder / "yt8m [2018]*"
    odd.mkdir()
    (odd / "train7.tfrecord").write_bytes(b"")
    assert names(shard_files.named("train*.tfrecord", odd)) == ["train7.tfrecord"]
    assert names(shard_files.named("train7.tfrecord", odd)) == ["train7.tfrecord"]


def test_all_shards_of_one_set(tmp_path):
    """Where names say of how many; a folder's own name and other files do not count."""
    folder = f"{tmp_path}/part-1-of-3"
    whole = [f"{folder}/train-{n:05d}-of-00002.tfrecord" for n in range(2)]
    for fine in ([], whole, [f"{folder}/train{n}.tfrecord" for n in range(2)]):
        shard_files.check_one_set(fine)
    shard_files.check_one_set([f"s3://x/a-train.tfrecord-0000{n}-of-2" for n in (0, 1)])


@pytest.mark.parametrize(
    "second, said",
    [
        ("train-00000-of-00001.tfrecord", r"train-\*-of-00001.tfrecord"),
        ("val-00000-of-00001.tfrecord", r"val-\*-of-00001.tfrecord"),
        ("train-00000-of-00001.idx", r"train-\*-of-00001.idx"),
        ("train.tfrecord", "train.tfrecord"),
    ],
)
def test_a_second_set_is_refused(second, said):
    whole = [f"data/train-{n:05d}-of-00002.tfrecord" for n in range(2)]
    match = rf"one set of shards.*data/train-\*-of-00002.tfrecord, data/{said}$"
    with pytest.raises(ValueError, match=match):
        shard_files.check_one_set([*whole, f"data/{second}"])


def test_a_missing_shard_is_named():
    paths = [f"data/train-{n:05d}-of-00004" for n in (0, 2)]
    match = "`data_dir` must hold all 4.*: 2 that are.*first data/train-00001-of-00004$"
    with pytest.raises(FileNotFoundError, match=match):
        shard_files.check_one_set(paths)
