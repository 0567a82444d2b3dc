"""Bad records: an error that names file, record and field, or a counted skip."""

import functools
import logging

import numpy as np
import pytest
import tensorflow as tf

from datasets import (
    drawn_frames,
    tfrecord_framing,
    youtube8m,
    youtube8m_checks,
    youtube8m_records,
    youtube8m_segments,
)
from datasets.youtube8m_records import Form
from tests import youtube8m_protos as protos

pytestmark = [pytest.mark.slow, pytest.mark.line("2.21")]

SMALL = {"features": protos.FEATURES, "num_classes": protos.CLASSES}
PATH = "folder/train0000.tfrecord"
RGB, AUDIO = b"r" * 12, b"a" * 5
EXAMPLE = tf.train.Example(
    features=tf.train.Features(feature={"id": protos.feature(b"x")})
)


def frames(rgb=(RGB,) * 3, audio=(AUDIO,) * 3):
    return protos.video("bad", frames={"rgb": list(rgb), "audio": list(audio)})


def two_values():
    values = tf.train.BytesList(value=[AUDIO, AUDIO])
    return frames(audio=[AUDIO, AUDIO, tf.train.Feature(bytes_list=values)])


# name: (record, field, what the message says)
BAD = {
    "no message": (b"\xff" * 40, "record", "must be a SequenceExample"),
    "cut short": (
        protos.video().SerializeToString()[:-7],
        "record",
        "must be a SequenceExample",
    ),
    "empty": (b"", "rgb", "`rgb` must have at least one frame"),
    "video level": (EXAMPLE, "rgb", "`rgb` must have at least one frame"),
    "no frames": (frames([], []), "rgb", "`rgb` must have at least one frame"),
    "short frame": (
        frames(rgb=[RGB, RGB[:-1], RGB]),
        "rgb",
        "`rgb` must hold 12 bytes in each frame. Received: 11 bytes",
    ),
    "long frames": (
        frames(audio=[AUDIO + b"a"] * 3),
        "audio",
        "`audio` must hold 5 bytes in each frame. Received: 6 bytes",
    ),
    "sizes that cancel out": (
        frames(rgb=[RGB[:-1], RGB, RGB + b"r"]),
        "rgb",
        "`rgb` must hold 12 bytes in each frame. Received: 11 bytes",
    ),
    "fewer frames": (
        frames(audio=[AUDIO] * 2),
        "audio",
        "`audio` must have as many frames as `rgb`. Received: 2 frames against 3",
    ),
    "one feature": (
        protos.video(frames={"rgb": [RGB] * 3}),
        "audio",
        "`audio` must have as many frames as `rgb`. Received: 0 frames against 3",
    ),
    "ints": (frames(rgb=[[1, 2]] * 3), "rgb", "`rgb` must be of the type"),
    "two values": (two_values(), "audio", "`audio` must have one value in each frame"),
    "label too high": (
        protos.video(labels=[2, 7]),
        "labels",
        "`labels` must be from 0 to 6. Received: 7",
    ),
    "label below 0": (
        protos.video(labels=[-1]),
        "labels",
        "`labels` must be from 0 to 6. Received: -1",
    ),
    "labels of another type": (
        tf.train.SequenceExample(
            context=tf.train.Features(feature={"labels": protos.feature([0.5])}),
            feature_lists=frames().feature_lists,
        ),
        "labels",
        "`labels` must be of the type",
    ),
}
WAYS = {
    "all frames": {},
    "by arithmetic": {"random_frames": 4},
    "by the parser": {"random_frames": 4, "verify_checksums": True},
}


def drain(**arguments):
    with youtube8m.clear_errors():
        return list(youtube8m.load("train", **{**SMALL, **arguments}))


def ids(**arguments):
    return [n for *_, names in drain(with_ids=True, **arguments) for n in names.numpy()]


def good(count, name="g"):
    return [protos.video(f"{name}{number}") for number in range(count)]


@functools.lru_cache
def in_graph(level):
    """The checks of a batch of records, traced once."""
    form = Form(level, protos.FEATURES, protos.CLASSES)
    paths = tf.constant(["other", PATH])

    @tf.function
    def decode(records):
        places = tf.cast(tf.range(tf.size(records)), tf.int64)
        batch = {"record": records, "number": places, "file": tf.ones_like(places)}
        if level == "video":
            return youtube8m_records.video_batch(batch, paths, form)
        if level == "segment":
            return youtube8m_segments.segments(batch, paths, form)
        return youtube8m_records.frame_batch(batch, paths, paths, form)

    return decode


def error_of(check):
    with pytest.raises(youtube8m.RecordError) as caught, youtube8m.clear_errors():
        check()
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)
    return caught.value


def assert_found(level, record, field, said, before):
    """The checks in the graph and in Python say the same of a bad record."""
    record = record if isinstance(record, bytes) else record.SerializeToString()
    batch = [before.SerializeToString()] * 3
    form = Form(level, protos.FEATURES, protos.CLASSES)
    in_graph(level)(tf.constant(batch))
    youtube8m_checks.check(batch[0], PATH, 0, form)
    batch[1] = record
    graph = error_of(lambda: in_graph(level)(tf.constant(batch)))
    python = error_of(lambda: youtube8m_checks.check(record, PATH, 1, form))
    for error in (graph, python):
        assert (error.path, error.record, error.field) == (PATH, 1, field)
        assert said in str(error) and f"record 1 of {PATH}" in str(error)
    # Of another type, the parser does not say of which.
    assert str(graph) == str(python) or "of the type" in said


@pytest.mark.parametrize("case", BAD)
def test_the_checks_name_file_record_and_field(case):
    assert_found("frame", *BAD[case], before=protos.video())


@pytest.mark.parametrize("case", [case for case in BAD if "label" not in case])
def test_drawing_by_arithmetic_finds_the_same(tmp_path, case):
    record, field, said = BAD[case]
    path = protos.write(tmp_path / "x", [*good(3), record, *good(2)])
    form = Form("frame", protos.FEATURES, protos.CLASSES, random_frames=4)
    places = drawn_frames.places(path).T
    zeros = np.zeros(6, np.int64)
    reader = drawn_frames.FrameReader([path], [1], form)
    error = error_of(lambda: reader.read(zeros, zeros, *places))
    assert (error.path, error.record, error.field) == (path, 3, field)
    assert said in str(error)


@pytest.mark.parametrize(
    "case, way",
    [
        ("short frame", "all frames"),
        ("label too high", "by arithmetic"),
        ("fewer frames", "by arithmetic"),
        ("no message", "by the parser"),
    ],
)
def test_an_error_comes_through_the_dataset(tmp_path, case, way):
    record, field, said = BAD[case]
    fine = protos.write(tmp_path / "train0.tfrecord", good(5))
    path = protos.write(tmp_path / "train1.tfrecord", [*good(3), record, *good(2)])
    error = error_of(lambda: drain(files=[fine, path], batch_size=4, **WAYS[way]))
    assert (error.path, error.record, error.field) == (path, 3, field)
    assert said in str(error)


@pytest.mark.parametrize("way", ["all frames", "by arithmetic"])
def test_bad_records_are_skipped_counted_and_reported(tmp_path, way, caplog):
    records = good(3)
    for number, (record, *_) in enumerate(BAD.values()):
        records += [record, protos.video(f"x{number}")]
    path = protos.write(tmp_path / "train0.tfrecord", records)
    report = youtube8m.BadRecords()
    expected = [f"g{n}".encode() for n in range(3)]
    expected += [f"x{n}".encode() for n in range(len(BAD))]
    with caplog.at_level(logging.WARNING, "ensemble_heads"):
        found = ids(
            files=path, batch_size=4, epochs=2, shuffle=False, **WAYS[way],
            skip_bad_records=True, bad_records=report,
        )  # fmt: skip
    assert found == expected * 2
    assert len(report) == len(BAD)  # once, though two epochs met them
    for number, (error, case) in enumerate(zip(report.errors, BAD)):
        assert (error.path, error.record) == (path, 3 + 2 * number)
        assert error.field == BAD[case][1] and BAD[case][2] in str(error)
    assert report.counts["`rgb` must have at least one frame."] == 3
    assert sum(report.counts.values()) == len(BAD)
    (logged,) = caplog.messages
    assert logged == report.summary()
    assert f"{len(BAD)} bad records" in logged and path in logged


def test_without_a_report_the_summary_is_still_logged(tmp_path, caplog):
    path = protos.write(tmp_path / "train0.tfrecord", [*good(2), b"", *good(1)])
    with caplog.at_level(logging.WARNING, "ensemble_heads"):
        assert len(ids(files=path, skip_bad_records=True)) == 3
    assert "Left out 1 bad records" in caplog.text


def damaged(tmp_path, kind):
    """Two good files and one whose record 2 cannot be read."""
    paths = [
        protos.write(tmp_path / f"train{n}.tfrecord", good(6, "abc"[n])) for n in (0, 1)
    ]
    path = tmp_path / "train2.tfrecord"
    protos.write(path, good(6, "c"))
    data = bytearray(path.read_bytes())
    start, length = list(tfrecord_framing.walk(str(path)))[2]
    if kind == "truncated":
        data = data[: start + length // 2]
    elif kind == "cut in its header":
        data = data[: start + 5]
    elif kind == "data":
        data[start + 12 + length // 2] ^= 1
    else:
        data[start] ^= 1
    path.write_bytes(data)
    return [*paths, str(path)]


@pytest.mark.parametrize(
    "kind, way",
    [
        ("truncated", "all frames"),
        ("truncated", "by arithmetic"),
        # TensorFlow's reader takes less than a header for the end of the file.
        ("cut in its header", "by arithmetic"),
        # Drawn frames of local files are not verified, as documented.
        ("data", "by the parser"),
        ("length", "by arithmetic"),
    ],
)
def test_a_damaged_file_is_found(tmp_path, kind, way):
    paths = damaged(tmp_path, kind)
    with pytest.raises(youtube8m.RecordError) as caught:
        drain(files=paths, batch_size=4, **WAYS[way])
    assert (caught.value.path, caught.value.record) == (paths[2], 2)
    assert caught.value.field == "record"
    short = "breaks off" if kind in ("truncated", "cut in its header") else "checksum"
    assert short in str(caught.value)


@pytest.mark.parametrize(
    "kind, way", [("truncated", "all frames"), ("length", "by arithmetic")]
)
def test_the_rest_of_a_damaged_file_is_skipped(tmp_path, kind, way):
    paths, report = damaged(tmp_path, kind), youtube8m.BadRecords()
    found = ids(
        files=paths,
        batch_size=4,
        skip_bad_records=True,
        bad_records=report,
        **WAYS[way],
    )
    expected = {f"{file}{n}".encode() for file in "ab" for n in range(6)}
    assert set(found) == expected | {b"c0", b"c1"}
    (error,) = report.errors
    assert (error.path, error.record, error.field) == (paths[2], 2, "record")


def test_an_empty_file_holds_nothing(tmp_path):
    (tmp_path / "train0.tfrecord").touch()
    protos.write(tmp_path / "train1.tfrecord", good(2))
    for way in WAYS.values():
        assert len(ids(data_dir=tmp_path, **way)) == 2


def test_nothing_but_empty_files_is_refused(tmp_path):
    for name in ("train0", "train1"):
        (tmp_path / f"{name}.tfrecord").touch()
    for way in WAYS.values():
        with pytest.raises(ValueError, match="hold records.*2 without any.*train0"):
            ids(data_dir=tmp_path, **way)


VIDEO_BAD = {
    "mean_rgb": {"mean_rgb": [0.5] * 11, "mean_audio": [0.5] * 5, "labels": [1]},
    "mean_audio": {"mean_rgb": [0.5] * 12, "labels": [1]},
    "labels": {"mean_rgb": [0.5] * 12, "mean_audio": [0.5] * 5, "labels": [9]},
}


@pytest.mark.parametrize(
    "field, said",
    [
        ("mean_rgb", "`mean_rgb` must hold 12 numbers. Received: 11 numbers"),
        ("mean_audio", "`mean_audio` must hold 5 numbers. Received: 0 numbers"),
        ("labels", "`labels` must be from 0 to 6. Received: 9"),
    ],
)
def test_video_level(field, said):
    def example(features):
        features = {k: protos.feature(v) for k, v in features.items()}
        return tf.train.Example(features=tf.train.Features(feature=features))

    fine = {"mean_rgb": [0.5] * 12, "mean_audio": [0.5] * 5, "labels": [1]}
    assert_found("video", example(VIDEO_BAD[field]), field, said, example(fine))


SEGMENTS = {
    "segment_start_times": [0, 5],
    "segment_end_times": [5, 10],
    "segment_labels": [1, 2],
    "segment_scores": [1.0, 0.0],
}


@pytest.mark.parametrize(
    "field, values, said",
    [
        (
            "segment_start_times",
            [0, 12],
            "must lie within the video. Received: 12 of 12",
        ),
        ("segment_start_times", [-5, 5], "must lie within the video. Received: -5"),
        ("segment_labels", [1, 7], "must be from 0 to 6. Received: 7"),
        ("segment_labels", [1], "as many values as `segment_start_times`"),
        ("segment_scores", [1.0], "Received: 1 for 2"),
        ("segment_end_times", [5], "as many values as `segment_start_times`"),
        ("segment_scores", [1, 0], "must be of the type"),
        ("segment_scores", [1.0, 1.5], "must be from 0 to 1. Received: 1.500000"),
        ("segment_scores", [-1.0, 1.0], "must be from 0 to 1. Received: -1.000000"),
        ("segment_scores", [0.0, np.nan], "must be from 0 to 1. Received: nan"),
    ],
)
def test_segments(field, values, said):
    fine = protos.video(frames=12, **SEGMENTS)
    record = protos.video(frames=12, **{**SEGMENTS, field: values})
    assert_found("segment", record, field, said, fine)


def test_other_errors_pass_unchanged():
    with pytest.raises(tf.errors.InvalidArgumentError, match="mine"):
        with youtube8m.clear_errors():
            tf.debugging.assert_equal(1, 2, message="mine")
    with pytest.raises(KeyError), youtube8m.clear_errors():
        raise KeyError("x")


def test_the_checksum_is_that_of_tensorflow(tmp_path):
    path = protos.write(tmp_path / "x.tfrecord", [b"123456789"])
    data = (tmp_path / "x.tfrecord").read_bytes()
    stored = np.frombuffer(data[-4:], "<u4")[0]
    assert tfrecord_framing.masked_crc(b"123456789") == stored
    assert list(tfrecord_framing.walk(path)) == [(0, 9)]
