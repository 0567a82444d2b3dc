"""Kinetics: lists that do not fit, missing and damaged videos, wrong arguments."""

import pytest
import tensorflow as tf

from datasets import kinetics
from tests import small_videos
from tests.small_kinetics import OFFICIAL, flat, load, names, write_csv, write_folder

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    top = tmp_path_factory.mktemp("kinetics")
    write_folder(top)
    return top


def test_bad_lists(folder, tmp_path):
    def refused(error, match, **changes):
        with pytest.raises(error, match=match):
            load(changes.pop("data_dir", folder), **changes)

    refused(ValueError, "num_classes=400, 3 classes in", num_classes=400)
    refused(ValueError, "one of the 3 `class_names`.*air_drum", class_names=list("abc"))
    refused(FileNotFoundError, "a text file that exists", class_names="abc")
    refused(ValueError, "must name each class once", class_names=["a", "b", "a"])
    refused(FileNotFoundError, "train with a folder for each class", split="train")
    refused(FileNotFoundError, "a folder that exists", data_dir=tmp_path / "none")
    refused(ValueError, "must say where the videos are", data_dir=None)
    refused(FileNotFoundError, "a CSV file that exists", annotations=tmp_path / "a")
    table = write_csv(tmp_path / "a.csv", ("file", "class"), [("a", "b")])
    refused(ValueError, "must have the columns path and label", annotations=table)
    table = write_csv(tmp_path / "b.csv", ("path", "label"), [("a", "b"), ("c", "")])
    refused(ValueError, "Received: line 3", annotations=table)
    rows = [("yoga", "id", "zero", 10, "validate")]
    table = write_csv(tmp_path / "c.csv", OFFICIAL, rows)
    refused(ValueError, "numbers as time_start.*line 2", annotations=table)
    rows = [("yoga", "id", 0, 10, "train")]
    table = write_csv(tmp_path / "d.csv", OFFICIAL, rows)
    refused(FileNotFoundError, "videos of 'validate'", annotations=table, num_classes=1)
    rows = [("yoga", "id", 0, 10, "validate"), ("yoga", "x", 0, 10, "Validate")]
    table = write_csv(tmp_path / "e.csv", OFFICIAL, rows)
    refused(ValueError, "as split in each.*line 3, 'Validate'", annotations=table)
    refused(
        ValueError, "`annotations` must be left out", annotations=table, files="a.b"
    )


def test_class_folders_hold_videos_and_nothing_else(tmp_path):
    write_folder(tmp_path)
    classes = sorted((tmp_path / "val").iterdir())
    (classes[0] / ".DS_Store").touch()
    load(tmp_path)
    (classes[1] / "5.flv").touch()
    with pytest.raises(ValueError, match="mp4.*and nothing else.*Received: .*5.flv in"):
        load(tmp_path)
    (classes[1] / "5.flv").unlink()
    for video in classes[2].iterdir():
        video.unlink()
    with pytest.raises(ValueError, match=f"Received: none in .*{classes[2].name}"):
        load(tmp_path)


def test_bad_arguments(folder):
    def refused(match, **changes):
        with pytest.raises(ValueError, match=match):
            load(folder, **changes)

    refused("`split` must be one of", split="val")
    refused("`pixels` must be one of", pixels="centred")
    refused("`epochs` must be at least 1", epochs=0)
    refused("`short_sides` must be .* from `crop`, 64", crop=64)
    refused("`short_sides`", short_sides=(50, 40))
    refused("`frame_rate` must be above 0", frame_rate=0)
    refused("must be 1 with `augment`", augment=True, spatial_views=3)
    refused("`shard` must be .index, count.", shard=(2, 2))
    refused("at most as many workers as there are videos, 7", shard=(0, 8))
    refused("`batch_size` must be at most the 7", batch_size=8, drop_remainder=True)
    for name in ("frames", "stride", "crop", "temporal_views", "spatial_views"):
        refused(f"`{name}` must be at least 1", **{name: 0})
    refused("`start_batch` must be at least 0", start_batch=-1)


def test_a_video_that_is_there_twice(tmp_path):
    for suffix in (".mp4", ".avi"):
        small_videos.write(tmp_path / suffix[1:] / f"x_000001_000002{suffix}", 3)
    write_csv(tmp_path / "train.csv", OFFICIAL[:4], [("yoga", "x", 1, 2)])
    with pytest.raises(ValueError, match=r"hold each video once.*avi/x.*mp4/x"):
        load(tmp_path, "train", num_classes=1)


def test_two_videos_of_one_name(tmp_path):
    """They would share their draws, and nobody could tell them apart."""
    for name in ("b/1.avi", "b/2.avi", "a/1.avi"):
        small_videos.write(tmp_path / "train" / name, 3)
    said = "by a file name that no other has.*clips are drawn and told apart by it. "
    chosen = {"num_classes": 2}

    def refused(*received, **changes):
        match = " and ".join(rf"{tmp_path}/\S*{end}" for end in received)
        with pytest.raises(ValueError, match=f"{said}Received: {match}$"):
            load(tmp_path, "train", **chosen, **changes)

    refused("a/1.avi of class 'a'", "b/1.avi of class 'b'")
    (tmp_path / "train/a/1.avi").rename(tmp_path / "train/a/2.mov")
    refused("a/2.mov of class 'a'", "b/2.avi of class 'b'")
    (tmp_path / "train/a/2.mov").rename(tmp_path / "train/a/3.avi")
    assert len(list(load(tmp_path, "train", batch_size=1, **chosen))) == 3
    # Of a table, also where it gives one video twice and where one is not there.
    for second in ("train/b/1.avi", "gone/1.avi"):
        rows = [("train/b/1.avi", "a"), ("train/a/3.avi", "a"), (second, "b")]
        table = write_csv(tmp_path / "a.csv", ("path", "label"), rows)
        refused("b/1.avi of class 'a'", f"{second} of class 'b'", annotations=table)
    rows = [("a", "x", 1, 2), ("b", "x", 1.5, 2)]  # whole seconds are in files' names
    table = write_csv(tmp_path / "b.csv", OFFICIAL[:4], rows)
    names = [f"x_000001_000002.mp4 of class '{one}'" for one in "ab"]
    refused(*names, annotations=table)


def test_a_video_of_no_class(tmp_path):
    for name in ("a/1.avi", "b/2.avi", "3.avi"):
        small_videos.write(tmp_path / "train" / name, 3)
    with pytest.raises(ValueError, match="in the folder of its class.*train/3.avi, wh"):
        load(tmp_path, "train", num_classes=2)
    (tmp_path / "train/3.avi").unlink()
    (tmp_path / "train/notes.txt").write_text("no video")
    assert len(list(load(tmp_path, "train", num_classes=2, batch_size=1))) == 2


def test_videos_that_are_not_there(folder, tmp_path, caplog):
    rows = [("a", f"id_0{n}", 10, 20, "test") for n in (5, 6, 7, 8)]
    table = write_csv(tmp_path / "a.csv", OFFICIAL, rows)
    chosen = {"annotations": table, "num_classes": 1}
    match = "2 of 4 are not there, such as .*id_07_000010_000020.mp4"
    with pytest.raises(FileNotFoundError, match=match):
        load(folder, "test", **chosen)
    bad = kinetics.BadRecords()
    found = load(folder, "test", skip_bad_records=True, bad_records=bad, **chosen)
    assert flat(names(found)) == ["05", "06"]
    assert len(bad) == 2 and bad.counts == {"`video` must be there.": 2}
    assert "Left out 2 bad records" in caplog.text


@pytest.fixture
def damaged(folder, tmp_path):
    """Five whole videos, one damaged after 8 of 12 frames, and one that is none."""
    top = tmp_path / "damaged"
    for path in sorted(folder.rglob("*.mp4")):
        place = top / "validate" / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    second, fourth = (next(top.rglob(f"id_0{n}_*")) for n in (2, 4))
    small_videos.blot(str(second), 8)
    fourth.write_text("no video")
    return top


def test_what_is_damaged_is_an_error_that_names_it(damaged):
    with pytest.raises(kinetics.RecordError, match=r"id_02_0.*mp4\.$") as caught:
        with kinetics.clear_errors():
            list(load(damaged))
    assert caught.value.record is None and "id_02" in caught.value.path
    assert caught.value.reason == "`video` must be whole, as its file was written."


def test_what_is_damaged_is_left_out_if_asked_for(damaged, caplog):
    bad = kinetics.BadRecords()
    chosen = {"skip_bad_records": True, "bad_records": bad}
    found = names(load(damaged, epochs=2, **chosen))
    assert found == [["00", "01", "03"], ["05", "06"]] * 2
    assert len(bad) == 2 and not len(bad.used)
    assert caplog.text.count("Left out 2 bad records") == 1


def test_what_comes_before_damage_is_used_if_asked_for(damaged, caplog):
    bad = kinetics.BadRecords()
    chosen = {"skip_bad_records": True, "use_damaged": True, "bad_records": bad}
    found = list(load(damaged, **chosen))
    assert names(found) == [["00", "01", "02"], ["03", "05", "06"]]
    assert small_videos.numbers(found[0][0][2]) == [2, 3, 4, 5]  # the middle of 8
    assert [len(bad), len(bad.used)] == [1, 1] and "id_02" in bad.used.errors[0].path
    assert "Used, whole or in part, 1 bad records" in caplog.text
    with pytest.raises(kinetics.RecordError, match="id_04_0"), kinetics.clear_errors():
        list(load(damaged, use_damaged=True))


def test_too_few_good_videos_are_an_error_and_no_endless_search(damaged):
    for path in damaged.rglob("*.mp4"):
        if "id_03" not in path.name:
            path.write_text("no video")
    chosen = {"skip_bad_records": True, "epochs": None}
    assert names(load(damaged, **chosen).take(2)) == [["03"], ["03"]]
    match = "at least 3 clips for a batch. Received: 1. Left out 6 bad records"
    with pytest.raises(tf.errors.OpError, match=match):
        list(load(damaged, drop_remainder=True, **chosen))
