"""Kinetics from TFRecords: the clips of the videos, conversions, bad records."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from datasets import kinetics, kinetics_records, tfrecord_framing
from recipes import convert_kinetics
from recipes.common import Options, SettingError
from tests import small_videos

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

CLASSES = ("a", "b")
SMALL = {
    "num_classes": 2,
    "frames": 6,
    "stride": 2,
    "crop": 32,
    "short_sides": (32, 40),
    "pixels": "bytes",
    "with_ids": True,
}
CONVERT = {"num_classes": 2, "shard_size": 3, "jobs": 2, "quality": 95}
KILLED = """
import os, signal
from datasets import kinetics_conversion
from recipes import common, convert_kinetics

videos = 0
write = kinetics_conversion.convert_shard

def convert_shard(shard, form, pool, ahead, advance):
    def counted():
        global videos
        videos += 1
        if videos == 5:  # in the middle of the second shard
            os.kill(os.getpid(), signal.SIGKILL)
    return write(shard, form, pool, ahead, counted)

kinetics_conversion.convert_shard = convert_shard
common.run(convert_kinetics.main, convert_kinetics.PRESETS)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight videos; one damaged after 20 frames, one that is none."""
    top = tmp_path_factory.mktemp("videos")
    for number in range(8):
        place = top / "train" / CLASSES[number % 2] / f"clip{number}.mp4"
        small_videos.write(
            *(place, 30 + number),
            rate=[25, 10, 30][number % 3],
            size=[(64, 48), (49, 63)][number % 2],
            codec="mpeg4",
        )
    small_videos.blot(str(top / "train/a/clip4.mp4"), 20)
    (top / "train/b/clip7.mp4").write_text("no video")
    return top


def convert(folder, workdir, overwrite=False, **changes):
    """Converts; returns what is printed."""
    settings = convert_kinetics.Settings(data_dir=str(folder), **{**CONVERT, **changes})
    printed = io.StringIO()
    convert_kinetics.main(
        settings,
        Options(workdir=workdir, overwrite=overwrite),
        Console(file=printed, width=500),
    )
    return printed.getvalue()


@pytest.fixture(scope="module")
def records(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("records")
    convert(folder, output)
    return output


def load(data_dir, split="train", batch_size=4, **changes):
    return kinetics.load(split, data_dir, batch_size, **{**SMALL, **changes})


def by_name(dataset):
    return {
        name: (clip, label)
        for clips, labels, ids in dataset
        for clip, label, name in zip(clips.numpy(), labels.numpy(), ids.numpy())
    }


# ---- The same clips


@pytest.mark.parametrize(
    "way",
    [
        {"augment": False},
        {"augment": True, "seed": 4},
        {"augment": False, "frame_rate": 10.0},
        {"augment": False, "frames": 50},
    ],
)
def test_records_give_the_clips_of_the_videos(folder, records, way):
    videos = by_name(load(folder, skip_bad_records=True, **way))
    found = by_name(load(records, **way))
    assert found.keys() == videos.keys() and len(found) == 6
    for name, (clip, label) in videos.items():
        other, other_label = found[name]
        assert label == other_label == int(name[-1:]) % 2
        assert small_videos.numbers(other) == small_videos.numbers(clip)
        assert np.abs(other.astype(int) - clip).max() <= 4  # JPEG


def test_an_epoch_a_restart_and_workers(records):
    chosen = {"seed": 2, "epochs": 3}
    whole = list(load(records, **chosen))
    assert [len(labels) for _, labels, _ in whole] == [4, 2] * 3
    orders = [tuple(np.concatenate([b[2] for b in whole[n : n + 2]])) for n in (0, 2)]
    assert len(set(orders)) == 2 and set(orders[0]) == set(orders[1])
    for one, other in zip(load(records, start_batch=3, **chosen), whole[3:]):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)
    parts = [by_name(load(records, shard=(n, 4))) for n in range(4)]
    assert sorted(name for part in parts for name in part) == sorted(orders[0])


def test_frames_are_kept_as_they_are_or_smaller(folder, tmp_path):
    convert(folder, tmp_path / "all", frame_rate=None, shard_size=9)
    convert(folder, tmp_path / "small", short_side=24, frame_rate=5, shard_size=9)
    sizes, counts = {}, {}
    for kind in ("all", "small"):
        (path,) = (tmp_path / kind).glob("*.tfrecord")
        for octets in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            record = tf.train.SequenceExample.FromString(octets)
            name = record.context.feature[kinetics_records.NAME].bytes_list.value[0]
            frames = record.feature_lists.feature_list[kinetics_records.FRAMES].feature
            image = Image.open(io.BytesIO(frames[0].bytes_list.value[0]))
            sizes[kind, name], counts[kind, name] = image.size, len(frames)
    assert counts["all", b"clip2"] == 32 and sizes["all", b"clip3"] == (49, 63)
    assert counts["small", b"clip2"] == round(31 / 30 * 5) + 1
    assert sizes["small", b"clip3"] == (24, round(63 * 24 / 49))


# ---- Converting


def test_what_could_not_be_read_is_told(folder, tmp_path):
    printed = convert(folder, tmp_path / "a")
    assert "has 6 videos of train in 3 shards" in printed
    assert "Left out 2 videos (0 are not there), used 0 damaged ones" in printed
    lines = (tmp_path / "a/train_left_out.jsonl").read_text().splitlines()
    told = {json.loads(line)["path"][-9:]: json.loads(line) for line in lines}
    assert told.keys() == {"clip4.mp4", "clip7.mp4"}
    assert "must be whole" in told["clip4.mp4"]["reason"]
    assert "FFmpeg can open" in told["clip7.mp4"]["reason"]
    printed = convert(folder, tmp_path / "b", use_damaged=True)
    assert "has 7 videos" in printed and "used 1 damaged ones" in printed
    clip, _ = by_name(load(tmp_path / "b", augment=False))[b"clip4"]
    assert max(small_videos.numbers(clip)) < 20


def test_a_killed_conversion_goes_on_to_the_same_shards(
    folder, records, tmp_path, run_python
):
    with pytest.raises(pytest.fail.Exception, match="exit code -9"):
        flags = {"data_dir": folder, "workdir": tmp_path, **CONVERT}
        run_python(KILLED, *(f"--{key}={value}" for key, value in flags.items()))
    there = sorted(path.name for path in tmp_path.glob("*.tfrecord"))
    assert there == ["train-00000-of-00003.tfrecord"]
    with pytest.raises(FileNotFoundError, match="all 3 shards.*train-00001-of-00003"):
        load(tmp_path)
    first = (tmp_path / there[0]).stat().st_mtime_ns
    assert "1 of 3 shards are there." in convert(folder, tmp_path)
    assert (tmp_path / there[0]).stat().st_mtime_ns == first
    assert not list(tmp_path.glob(".*"))
    names = sorted(path.name for path in records.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        assert (tmp_path / name).read_bytes() == (records / name).read_bytes(), name


def test_records_of_one_name_are_not_made(tmp_path):
    for name in CLASSES:
        small_videos.write(tmp_path / "train" / name / "x.mp4", 3, codec="mpeg4")
    with pytest.raises(SystemExit, match="a/x.mp4 of class 'a' and .*b/x.mp4 of class"):
        convert(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_settings_or_videos_are_refused(folder, records, tmp_path):
    with pytest.raises(SettingError, match="quality is 95 there and 80 here"):
        convert(folder, records, quality=80)
    small_videos.write(tmp_path / "train/a/x.mp4", 3, codec="mpeg4")
    small_videos.write(tmp_path / "train/b/y.mp4", 3, codec="mpeg4")
    with pytest.raises(SettingError, match="videos is 8 there and 2 here"):
        convert(tmp_path, records)
    small_videos.write(tmp_path / "validate/d/x.mp4", 3, codec="mpeg4")
    small_videos.write(tmp_path / "validate/e/y.mp4", 3, codec="mpeg4")
    with pytest.raises(SettingError, match="the same classes for all splits"):
        convert(tmp_path, records, split="validate")
    with pytest.raises(SettingError, match="the same classes"):
        convert(tmp_path, records, split="validate", overwrite=True)
    with pytest.raises(SettingError, match="`quality` must be from 1 to 95"):
        convert(folder, records, quality=100)
    names = ["b", "a"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    convert(folder, tmp_path / "out", class_names=str(tmp_path / "names.txt"))
    convert(folder, tmp_path / "out", overwrite=True)
    name = "train-00001-of-00003.tfrecord"
    assert (tmp_path / "out" / name).read_bytes() == (records / name).read_bytes()


# ---- Bad records


def write(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def jpeg(level):
    octets = io.BytesIO()
    Image.new("RGB", (48, 40), (level,) * 3).save(octets, "JPEG")
    return octets.getvalue()


def good(name, label=0, frames=8):
    levels = [jpeg(small_videos.FIRST + small_videos.STEP * n) for n in range(frames)]
    times = np.arange(frames) / 25
    return kinetics_records.serialize(name, label, None, times, levels)


def broken(change):
    record = tf.train.SequenceExample.FromString(good("broken"))
    change(record.context.feature, record.feature_lists.feature_list)
    return record.SerializeToString()


BAD = {
    "label": (
        broken(lambda context, lists: context.pop(kinetics_records.LABEL)),
        "`clip/label/index` must be one number from 0 to 1. Received: []",
    ),
    "class": (good("x", label=2), "one number from 0 to 1. Received: [2]"),
    "frames": (
        broken(lambda context, lists: lists.pop(kinetics_records.FRAMES)),
        "`image/encoded` must have at least one frame. Received: none",
    ),
    "jpeg": (
        kinetics_records.serialize("x", 0, None, [0.0, 0.04], [b"none", b"none"]),
        "`image/encoded` must hold JPEG images that are whole. Received: frame 0",
    ),
    "cut jpeg": (
        kinetics_records.serialize("x", 0, None, [0.0], [jpeg(9)[:400]]),
        "JPEG images that are whole",
    ),
    "times": (
        kinetics_records.serialize("x", 0, None, [0.0], [jpeg(9), jpeg(9)]),
        "`image/timestamp` must have one number for each frame",
    ),
    "no message": (b"\xff\xff\xff", "`record` must be a SequenceExample."),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_record_is_named_or_left_out(tmp_path, kind):
    octets, said = BAD[kind]
    path = write(tmp_path / "train0.tfrecord", [good("a"), octets, good("b")])
    with pytest.raises(kinetics.RecordError) as caught, kinetics.clear_errors():
        list(load(tmp_path))
    assert said in str(caught.value)
    assert (caught.value.path, caught.value.record) == (path, 1)
    bad = kinetics.BadRecords()
    found = load(tmp_path, skip_bad_records=True, bad_records=bad)
    assert by_name(found).keys() == {b"a", b"b"} and len(bad) == 1


def test_a_damaged_file(tmp_path):
    path = tmp_path / "train0.tfrecord"
    write(path, [good("a"), good("b"), good("c")])
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 255  # inside of the second
    path.write_bytes(octets)
    with pytest.raises(kinetics.RecordError, match="does not match its checksum"):
        with kinetics.clear_errors():
            list(load(tmp_path))
    assert by_name(load(tmp_path, skip_bad_records=True)).keys() == {b"a", b"c"}
    path.write_bytes(octets[:-50])
    bad = kinetics.BadRecords()
    found = load(tmp_path, skip_bad_records=True, bad_records=bad)
    assert by_name(found).keys() == {b"a"}
    assert [error.record for error in bad.errors] == [1, 2]
    assert "breaks off" in str(bad.errors[1])
    start = list(tfrecord_framing.walk(str(path)))[1][0]
    octets[start] ^= 255
    path.write_bytes(octets)
    bad = kinetics.BadRecords()
    found = load(tmp_path, skip_bad_records=True, bad_records=bad)
    assert by_name(found).keys() == {b"a"}
    assert "Left out 1 bad records, and with them the rest of 1 files" in bad.summary()


def test_records_of_others(tmp_path):
    """Without times, names and a list of where they start."""
    record = tf.train.SequenceExample.FromString(good("a", frames=20))
    record.context.feature.pop(kinetics_records.NAME)
    record.feature_lists.feature_list.pop(kinetics_records.TIMES)
    write(tmp_path / "validate.tfrecord-00000-of-00001", [record.SerializeToString()])
    ((clips, labels, ids),) = load(tmp_path, "validate")
    assert small_videos.numbers(clips[0]) == [4, 6, 8, 10, 12, 14]
    assert ids.numpy().tolist() == [b"validate.tfrecord-00000-of-00001-0"]
    files = str(tmp_path / "validate*")
    assert len(list(load(None, "train", files=files, augment=False))) == 1


@pytest.mark.parametrize(
    "split, first, second",
    [
        ("train", "train-00000-of-00001.tfrecord", "train_2-00000-of-00001.tfrecord"),
        ("validate", "val.tfrecord-00000-of-00001", "validate-00000-of-00001.tfrecord"),
        ("test", "test-00000-of-00001.tfrecord", "test.tfrecord"),
    ],
)
def test_two_sets_of_shards_in_a_folder_are_not_both_read(
    tmp_path, split, first, second
):
    for name in (first, second):
        write(tmp_path / name, [good(name)])
    with pytest.raises(ValueError, match="`data_dir` must hold one set of shards"):
        load(tmp_path, split)
    for name in (first, second):  # by name it is meant
        ((_, _, ids),) = load(tmp_path, split, files=name)
        assert ids.numpy().tolist() == [name.encode()]


def test_shards_and_classes_that_do_not_fit(records):
    with pytest.raises(ValueError, match="num_classes=3, 2 in .*classes.txt"):
        load(records, num_classes=3)
    with pytest.raises(FileNotFoundError, match="`files` must exist.*no file"):
        load(records, files="other*")
    names = (records / "classes.txt").read_text().splitlines()
    with pytest.raises(ValueError, match="`class_names` must be those of the records"):
        load(records, class_names=names[::-1])
    load(records, class_names=[name.replace(" ", "_") for name in names])
    with pytest.raises(FileNotFoundError, match="`files` must exist.*a.tfrecord"):
        load(records, files="a.tfrecord")
