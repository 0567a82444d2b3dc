"""Order, epochs, restarts, workers, and which files belong to a split."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from datasets import shard_files, youtube8m
from tests import youtube8m_protos as protos

pytestmark = [pytest.mark.slow, pytest.mark.line("2.21")]

SMALL = {"features": protos.FEATURES, "num_classes": protos.CLASSES, "with_ids": True}
COUNTS = [40, 7, 12, 1, 35]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yt8m")
    protos.write_shards(folder, "train", COUNTS)
    protos.write_shards(folder / "validate", "validate", [3] * 13)
    return folder


def load(folder, split="train", batch_size=8, **changes):
    return youtube8m.load(split, folder, batch_size, **{**SMALL, **changes})


def ids(dataset):
    return [list(element[-1].numpy()) for element in dataset]


def flat(batches):
    return [name for batch in batches for name in batch]


def test_an_epoch_is_a_new_order_of_all_records(shards):
    dataset = load(shards, epochs=3, shuffle_buffer=20, seed=1)
    batches = ids(dataset)
    assert [len(batch) for batch in batches] == ([8] * 11 + [7]) * 3  # 95 records
    epochs = [flat(batches[12 * n : 12 * n + 12]) for n in range(3)]
    assert len(set(epochs[0])) == 95
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    # Not the order of the files: neighbours seldom come from neighbouring records.
    assert sum(a < b for a, b in zip(epochs[0], epochs[0][1:])) < 70


def test_the_seed_fixes_the_order_whatever_the_global_seed_is(shards):
    def order(global_seed, seed):
        tf.random.set_seed(global_seed)
        dataset = load(shards, epochs=2, seed=seed, shuffle_buffer=20)
        return ids(dataset)

    first = order(1, seed=5)
    assert order(2, seed=5) == first
    assert order(1, seed=6) != first


def test_evaluation_keeps_the_order_of_records_and_sees_each_once(shards):
    one_file = ids(load(shards, "validate", files="validate/validate0003.tfrecord"))
    assert flat(one_file) == [f"validate0003-{n}".encode() for n in range(3)]
    first, again = (ids(load(shards, "validate", epochs=1)) for _ in range(2))
    assert first == again
    assert sorted(flat(first)) == sorted(
        f"validate{shard:04d}-{n}".encode() for shard in range(13) for n in range(3)
    )


@pytest.mark.parametrize(
    "way", [{"random_frames": 3}, {"random_frames": 3, "verify_checksums": True}]
)
def test_a_restart_goes_on_exactly(shards, way):
    chosen = {"seed": 3, "shuffle_buffer": 20, "epochs": 3, **way}
    whole = list(load(shards, **chosen))
    assert len(whole) == 36
    assert_same(load(shards, start_batch=17, **chosen), whole[17:])
    assert_same(load(shards, start_epoch=1, start_batch=14, **chosen), whole[26:])
    assert not list(load(shards, start_batch=36, **chosen))


def test_a_restart_of_all_frames_and_without_end(shards):
    chosen = {"seed": 3, "shuffle_buffer": 20}
    whole = list(load(shards, epochs=2, **chosen))
    endless = load(shards, epochs=None, start_epoch=1, start_batch=3, **chosen)
    assert_same(endless.take(9), whole[15:])


def test_a_restart_at_segment_level(tmp_path):
    records = [
        protos.video(
            f"{n}", frames=25, segment_start_times=[0, 10, 15],
            segment_labels=[n % 7, 1, 2], segment_scores=[1.0, 0.0, 1.0],
        )
        for n in range(20)
    ]  # fmt: skip
    path = protos.write(tmp_path / "train0.tfrecord", records)
    chosen = {"level": "segment", "files": path, "epochs": 2, "shuffle_buffer": 9}
    whole = list(load(None, batch_size=7, **chosen))
    assert len(whole) == 2 * 9
    assert_same(load(None, batch_size=7, start_batch=11, **chosen), whole[11:])


def assert_same(found, expected):
    found = list(found)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected):
        for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other)):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "workers, frames", [(2, None), (5, 2), (6, None), (7, 2)]
)  # of five files
def test_workers_share_all_records(shards, workers, frames):
    seen, by_worker = collections.Counter(), []
    for index in range(workers):
        batches = ids(load(shards, shard=(index, workers), random_frames=frames))
        by_worker.append(set(flat(batches)))
        seen.update(flat(batches))
    assert len(seen) == sum(COUNTS) and set(seen.values()) == {1}
    files = [{name[:9] for name in names} for names in by_worker]
    if workers <= len(COUNTS):  # by files
        assert sum(map(len, files)) == len(COUNTS)
    else:
        assert max(map(len, by_worker)) < 25  # evenly, though files are of all sizes


def test_the_papers_split(shards, tmp_path):
    train = youtube8m.list_files("paper_train", shards)
    evaluation = youtube8m.list_files("paper_eval", shards)
    names = [shard_files.base_name(path) for path in evaluation]
    assert names == ["validate0000.tfrecord", "validate0010.tfrecord"]
    everything = youtube8m.list_files("train", shards)
    everything += youtube8m.list_files("validate", shards)
    assert sorted(train + evaluation) == sorted(everything)
    assert not set(train) & set(evaluation)
    # By name alone: in another place, with other files missing, the same side.
    fewer = tmp_path / "else" / "where"
    protos.write_shards(fewer, "validate", [1] * 12)
    (fewer / "validate0004.tfrecord").unlink()
    protos.write_shards(fewer, "train", [1])
    assert [
        shard_files.base_name(path)
        for path in youtube8m.list_files("paper_eval", fewer)
    ] == names
    by_hand = youtube8m.list_files("paper_eval", files=str(fewer / "*.tfrecord"))
    assert by_hand == youtube8m.list_files("paper_eval", fewer)
    both = youtube8m.list_files("paper_train", files=str(fewer / "*.tfrecord"))
    assert sorted(both) == sorted(youtube8m.list_files("paper_train", fewer))
    (fewer / "train0000.tfrecord").unlink()
    with pytest.raises(FileNotFoundError, match="must hold shards of 'paper_train'"):
        youtube8m.list_files("paper_train", fewer)  # not nine tenths of validate


@pytest.mark.parametrize(
    "names", ["{:04d}", "{}"], ids=["numbers", "numbers without zeros"]
)
def test_the_paper_evaluates_on_a_tenth(names):
    shards = [f"validate{names.format(n)}.tfrecord" for n in range(3844)]
    assert sum(map(shard_files.in_paper_eval, shards)) == 385


def test_shards_that_count_with_letters_are_split_too():
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    shards = [f"gs://x/validate{a}{b}.tfrecord" for a in digits for b in digits]
    assert 350 < sum(map(shard_files.in_paper_eval, shards)) < 420
    with pytest.raises(ValueError, match="names such as validate0000"):
        shard_files.in_paper_eval("validate-part.tfrecord")


def test_ranges_globs_and_lists(shards):
    folder = str(shards)
    expected = youtube8m.list_files("train", shards)[1:4]
    for files in (
        "train{0001..0003}.tfrecord",
        ["train0003.tfrecord", "train000[12].tfrecord"],
        ["train000{1..3}.tfrecord", "train0002.tfrecord"],
    ):
        assert youtube8m.list_files("train", shards, files=files) == expected
    pattern = f"{folder}/train000{{1..3}}.tfrecord"
    assert youtube8m.list_files("train", files=pattern) == expected


@pytest.mark.parametrize("below", ["", "train", "frame/train", "2/frame/train"])
def test_the_layouts_of_a_download_are_found(tmp_path, below):
    paths = protos.write_shards(tmp_path / below, "train", [1, 1])
    assert youtube8m.list_files("train", tmp_path) == paths


def test_numbered_shards_are_one_whole_set(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002"):
        protos.write(tmp_path / f"{name}.tfrecord", [protos.video(name)])
    assert len(youtube8m.list_files("train", tmp_path)) == 2
    other = tmp_path / "train_a-00000-of-00001.tfrecord"
    protos.write(other, [protos.video()])
    with pytest.raises(ValueError, match="`data_dir` must hold one set of shards"):
        youtube8m.list_files("train", tmp_path)
    (tmp_path / "train-00001-of-00002.tfrecord").unlink()
    with pytest.raises(FileNotFoundError, match="all 2 shards.*00001-of-00002"):
        youtube8m.list_files("train", tmp_path)
    assert youtube8m.list_files("train", tmp_path, files=other.name) == [str(other)]


def test_missing_files_are_named(shards, tmp_path):
    for arguments, said in (
        ({"data_dir": tmp_path / "gone"}, "`data_dir` must be a folder that exists"),
        ({"data_dir": tmp_path}, "must hold shards of 'train'.*no file matches"),
        ({"files": str(tmp_path / "*.tfrecord")}, "no file matches"),
        ({"files": str(tmp_path / "a{0..3}")}, "`files` must exist.*a0.*3 others"),
    ):
        with pytest.raises(FileNotFoundError, match=said):
            youtube8m.load("train", **arguments)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"split": "eval"}, "`split` must be one of .*split='eval'"),
        ({"level": "clip"}, "`level` must be one of .*level='clip'"),
        ({"batch_size": 0}, "`batch_size` must be at least 1. .*batch_size=0"),
        ({"features": {}}, "`features` must name at least one"),
        ({"epochs": -1}, "`epochs` must be at least 1, or None"),
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"shard": (2, 2)}, r"`shard` must be \(index, count\).*shard=\(2, 2\)"),
        ({"random_frames": 0}, "`random_frames` must be at least 1"),
        ({"pad_to": 299}, "`pad_to` must be at least 300.*pad_to=299"),
        ({"random_frames": 30, "pad_to": 25}, "`pad_to` must be at least 30"),
        ({"level": "video", "random_frames": 3}, "must be left out unless"),
        ({"start_batch": -1}, "`start_batch` must be at least 0"),
        ({"data_dir": None}, "`data_dir` or `files` must say"),
    ],
)
def test_bad_arguments_are_named(shards, change, said):
    with pytest.raises(ValueError, match=said):
        youtube8m.load(**{"split": "train", "data_dir": shards, **change})
