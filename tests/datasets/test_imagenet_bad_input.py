"""Bad images: an error that names file and record, or a counted skip; bad folders."""

import logging
import re
import threading
from pathlib import Path

import pytest
import tensorflow as tf

from datasets import imagenet, imagenet_records
from datasets.imagenet_source import RecordSource
from tests.imagenet_files import (
    CLASSES,
    converted,
    encode,
    picture,
    write_records,
    write_shards,
    write_tree,
)

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

SMALL = {"num_classes": 3, "image_size": 8, "colours": None}
WHOLE = encode(picture(1))
PNG = encode(picture(1), "PNG")

# name: (changes of a record, or its bytes; field; what the message says)
BAD = {
    "no message": (b"\xff" * 40, "record", "must be a SequenceExample or Example"),
    "cut short": (
        converted().SerializeToString()[:-7],
        "record",
        "must be a SequenceExample or Example",
    ),
    "cut jpeg": (
        {"image__encoded": WHOLE[: len(WHOLE) // 3]},
        "image/encoded",
        "must be an image, JPEG, PNG, GIF or BMP, that is whole",
    ),
    "cut png": ({"image__encoded": PNG[:-40]}, "image/encoded", "that is whole"),
    "no image": (
        {"image__encoded": b"<html>"},
        "image/encoded",
        "Received: 6 bytes that cannot be decoded",
    ),
    "empty": ({"image__encoded": b""}, "image/encoded", "Received: 0 bytes"),
    "image missing": (
        {"image__encoded": None},
        "image/encoded",
        "`image/encoded` must have one value. Received: 0 values",
    ),
    "two images": (
        {"image__encoded": [WHOLE, WHOLE]},
        "image/encoded",
        "must have one value. Received: 2 values",
    ),
    "image of floats": (
        {"image__encoded": 0.5},
        "image/encoded",
        "`image/encoded` must be of the type",
    ),
    "label missing": (
        {"image__class__label": None},
        "image/class/label",
        "must have one value. Received: 0 values",
    ),
    "background": (
        {"image__class__label": 0},
        "image/class/label",
        "must be from 1 to 3, .* label_offset=0.*Received: 0",
    ),
    "label too high": (
        {"image__class__label": 4},
        "image/class/label",
        "must be from 1 to 3, .*Received: 4",
    ),
}


def drain(folder, split="train", **changes):
    with imagenet.clear_errors():
        return [
            number
            for inputs, _ in imagenet.load(
                split, folder, 4, **{**SMALL, "numbered": True, **changes}
            )
            for number in inputs["number"].numpy()
        ]


def error_of(call, *arguments, **changes):
    with pytest.raises(imagenet.RecordError) as caught:
        call(*arguments, **changes)
    assert "\n" not in str(caught.value)
    return caught.value


# Labels that any record could have where a setting is wrong.
MISFITS = ("background", "label too high")


def bad_record(name):
    made = BAD[name][0]
    return made if isinstance(made, bytes) else converted(**made)


@pytest.fixture(scope="module")
def decoding(tmp_path_factory):
    """Callable that reads a bad record in the third of five, traced once for all."""
    path = tmp_path_factory.mktemp("records") / "train-00000-of-00001"
    write_records(path, [converted()] * 5)
    dataset = imagenet.load("train", path.parent, 4, shuffle=False, epochs=1, **SMALL)

    def read(record):
        write_records(path, [converted()] * 2 + [record] + [converted()] * 2)
        with imagenet.clear_errors():
            return sum(len(labels) for _, labels in dataset)

    return read, str(path)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_named_in_mid_epoch_as_python_names_it(name, decoding):
    read, path = decoding
    _, field, said = BAD[name]
    error = error_of(read, bad_record(name))
    assert (error.path, error.record, error.field) == (path, 2, field)
    form = imagenet_records.form_of([path], 3, None)
    source = RecordSource([path], form, None, (0, 1))
    python = error_of(source.check, 0, 2)
    for one in (error, python):
        assert str(one).endswith(f"In record 2 of {path}.")
        assert re.search(said, str(one)), str(one)
    assert python.reason == error.reason
    assert read(converted()) == 5  # the same data set goes on with a good file


def test_bad_records_are_left_out_and_counted_if_asked_for(tmp_path, caplog):
    good = [converted(n) for n in range(3)]
    skipped = {name: bad for name, bad in BAD.items() if name not in MISFITS}
    records = [bad_record(name) for name in skipped]
    # The first record as well, by which the converter is known.
    mixed = [records[0], good[0], *records[1:6], good[1], *records[6:], good[2]]
    write_records(tmp_path / "train-00000-of-00002", mixed)
    cut = write_records(tmp_path / "train-00001-of-00002", good)
    with open(cut, "r+b") as file:
        file.truncate(len(converted().SerializeToString()) * 2)
    bad = imagenet.BadRecords()
    caplog.set_level(logging.WARNING, "ensemble_heads")
    found = drain(tmp_path, skip_bad_records=True, bad_records=bad, epochs=2)
    assert sorted(found) == sorted(2 * [1, 7, len(mixed) - 1, 1 << 32])
    assert len(bad) == len(skipped) + 1  # and the record that breaks off
    reasons = {error.record: error.field for error in bad.errors if error.path != cut}
    numbers = [n for n in range(len(mixed)) if n not in (1, 7, len(mixed) - 1)]
    assert reasons == {n: BAD[name][1] for n, name in zip(numbers, skipped)}
    logged = [m for m in caplog.messages if m.startswith("Left out")]
    assert len(logged) == 1 and f"Left out {len(skipped) + 1} bad records" in logged[0]


@pytest.mark.parametrize("name", MISFITS)
def test_labels_that_do_not_fit_end_the_run_also_where_bad_records_do_not(
    tmp_path, name
):
    """Left out, all others would be one class further, and nobody would know."""
    records = [converted(), bad_record(name), converted()]
    path = write_records(tmp_path / "train-00000-of-00001", records)
    error = error_of(drain, tmp_path, skip_bad_records=True)
    assert (error.path, error.record, error.field) == (path, 1, "image/class/label")


@pytest.mark.parametrize("what", ["data", "length"])
def test_past_a_damaged_record_all_is_read_that_can_be_found(tmp_path, what, caplog):
    path = write_records(tmp_path / "train-00000-of-00001", [converted()] * 5)
    data = bytearray(open(path, "rb").read())
    record = len(data) // 5
    data[record + (record // 2 if what == "data" else 0)] ^= 1
    open(path, "wb").write(data)
    bad = imagenet.BadRecords()
    caplog.set_level(logging.WARNING, "ensemble_heads")
    found = drain(tmp_path, skip_bad_records=True, bad_records=bad)
    assert sorted(found) == ([0, 2, 3, 4] if what == "data" else [0])
    assert [(one.record, one.takes_rest) for one in bad.errors] == [
        (1, what == "length")
    ]
    more = ", and with them the rest of 1 files" if what == "length" else ""
    assert f"Left out 1 bad records{more}: " in caplog.text


def test_a_damaged_shard_is_named(tmp_path):
    paths = write_shards(tmp_path)
    data = bytearray(open(paths[1], "rb").read())
    data[-20] ^= 1
    open(paths[1], "wb").write(data)
    error = error_of(drain, tmp_path)
    assert (error.path, error.record, error.field) == (paths[1], 1, "record")
    assert "does not match its checksum" in str(error)


@pytest.mark.parametrize("what", ["cut", "gone"])
def test_a_bad_file_is_named_or_left_out(tmp_path, what):
    write_tree(tmp_path)
    bad_file = tmp_path / "train" / CLASSES[1] / f"{CLASSES[1]}_1.JPEG"
    bad = imagenet.BadRecords()
    chosen = {**SMALL, "numbered": True, "epochs": 2}
    strict = imagenet.load("train", tmp_path, 4, **chosen)
    skipping = imagenet.load(
        "train", tmp_path, 4, skip_bad_records=True, bad_records=bad, **chosen
    )
    data = bad_file.read_bytes()
    bad_file.unlink()
    if what == "cut":
        bad_file.write_bytes(data[:300])

    def read():
        with imagenet.clear_errors():
            list(strict)

    error = error_of(read)
    assert (error.path, error.record, error.field) == (str(bad_file), None, "image")
    assert str(error).endswith(f"In {bad_file}.")
    seen = [n for inputs, _ in skipping for n in inputs["number"].numpy()]
    assert len(seen) == 24 and len(set(seen)) == 12 and 5 << 32 not in seen
    assert [one.path for one in bad.errors] == [str(bad_file)]


@pytest.mark.parametrize("what", ["few records", "bad records", "bad files"])
def test_epochs_without_a_batch_are_an_error_and_not_read_for_ever(tmp_path, what):
    if what == "bad files":
        write_tree(tmp_path, (1, 1, 1))
        (tmp_path / "train" / CLASSES[0] / f"{CLASSES[0]}_0.JPEG").write_bytes(b"no")
        (tmp_path / "train" / CLASSES[1] / f"{CLASSES[1]}_0.JPEG").write_bytes(b"no")
    else:
        more = [bad_record("cut png")] * 3 if what == "bad records" else []
        write_records(tmp_path / "train-00000-of-00001", [converted(), *more])
    skip = what != "few records"
    chosen = {"epochs": None, "drop_remainder": True, "skip_bad_records": skip}
    caught = []

    def read():
        try:
            with imagenet.clear_errors():
                next(iter(imagenet.load("train", tmp_path, 2, **SMALL, **chosen)))
        except imagenet.RecordError as error:
            caught.append(str(error))

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    reading.join(60)
    said = "`batch_size` must be at most the records of this worker that can be used"
    assert len(caught) == 1 and caught[0].startswith(said)
    assert f"an epoch without a batch. In {tmp_path}" in caught[0]


def test_other_errors_are_not_taken_for_those_of_images(tmp_path):
    write_tree(tmp_path)
    list(imagenet.load("train", tmp_path, 4, **SMALL))
    with pytest.raises(tf.errors.InvalidArgumentError), imagenet.clear_errors():
        tf.debugging.Assert(False, ["something else"])


def test_missing_classes(tmp_path):
    write_tree(tmp_path)
    said = "folder for each of num_classes=4 classes.*Received: 3 folders in .*train"
    with pytest.raises(ValueError, match=said):
        drain(tmp_path, num_classes=4)
    with pytest.raises(ValueError, match="num_classes=2 classes.*3 folders"):
        drain(tmp_path, num_classes=2)
    with pytest.raises(ValueError, match="none for 'n9' in .*1 missing"):
        drain(tmp_path, num_classes=2, class_names=[CLASSES[0], "n9"])
    with pytest.raises(ValueError, match="`class_names` must name num_classes=3"):
        drain(tmp_path, class_names=[CLASSES[0]] * 3)
    (tmp_path / "train" / "n9").mkdir()
    with pytest.raises(ValueError, match="Received: none in .*n9"):
        drain(tmp_path, num_classes=4)


@pytest.mark.parametrize(
    "name, said",
    [
        (f"{CLASSES[0]}/notes.txt", "must hold images .*notes.txt"),
        (f"{CLASSES[0]}/deeper/x.JPEG", "Received: a folder 'deeper'"),
        ("x.JPEG", "either in class folders or in one folder.*x.JPEG beside"),
    ],
)
def test_what_does_not_belong_in_a_tree(tmp_path, name, said):
    write_tree(tmp_path)
    (tmp_path / "train" / ".DS_Store").write_bytes(b"")
    assert len(drain(tmp_path)) == 13
    path = tmp_path / "train" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=said):
        drain(tmp_path)


def test_missing_shards_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="`data_dir` must be a folder"):
        drain(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="must hold shards such as train-0"):
        drain(tmp_path)
    with pytest.raises(FileNotFoundError, match="must hold a folder 'train'"):
        drain(tmp_path, source="files")
    with pytest.raises(ValueError, match="`data_dir` or `files` must say where"):
        drain(None)
    paths = write_shards(tmp_path)
    other = tmp_path / "train-00000-of-00001"
    other.write_bytes(Path(paths[0]).read_bytes())
    with pytest.raises(ValueError, match="one set of shards.*-of-00001, .*-of-00003"):
        drain(tmp_path)
    other.unlink()
    with pytest.raises(FileNotFoundError, match="of 'validation'|validation-00000"):
        drain(tmp_path, "validation")
    tf.io.gfile.remove(paths[1])
    with pytest.raises(FileNotFoundError, match="all 3 shards.*-00001-of-00003"):
        drain(tmp_path)
    with pytest.raises(FileNotFoundError, match="`files` must exist"):
        drain(None, files=paths)
    assert len(drain(None, files=[paths[0], paths[2]])) == 11  # by name it is meant


def test_records_of_no_known_converter(tmp_path):
    record = converted(image__encoded=None)
    write_records(tmp_path / "train-00000-of-00001", [record])
    with pytest.raises(ValueError, match="known converter.*'image/class/label'"):
        drain(tmp_path)
    write_records(tmp_path / "train-00000-of-00001", [])
    with pytest.raises(ValueError, match="must hold records. Received: 1 files"):
        drain(tmp_path)
