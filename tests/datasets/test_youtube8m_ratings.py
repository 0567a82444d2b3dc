"""Segment level on files without rated segments: an error in place of no data."""

import numpy as np
import pytest

from datasets import youtube8m, youtube8m_segments
from tests import youtube8m_protos as protos

pytestmark = [pytest.mark.slow, pytest.mark.line("2.21")]

SMALL = {"features": protos.FEATURES, "num_classes": protos.CLASSES}
RATINGS = {
    "segment_start_times": [0, 5],
    "segment_labels": [1, 2],
    "segment_scores": [1.0, 0.0],
}
RATED = protos.video("r", frames=12, **RATINGS)
REFUSED = "`level` must be 'segment' only for .*Received: level='segment', and none in"


def load(**arguments):
    return youtube8m.load("train", with_ids=True, **SMALL, **arguments)


def ids(**arguments):
    return [name for *_, names in load(**arguments) for name in names.numpy()]


def unrated(count):
    return [protos.video(f"u{number}") for number in range(count)]


@pytest.mark.parametrize("skip", [False, True])
def test_files_without_ratings_are_refused(tmp_path, skip):
    """As those of 2018 are, and those whose ratings are there and empty."""
    frames = protos.write(tmp_path / "train0000.tfrecord", unrated(3))
    none = {name: np.array(values)[:0] for name, values in RATINGS.items()}
    protos.write(tmp_path / "train0001.tfrecord", [protos.video("n", **none)])
    protos.write(tmp_path / "train0002.tfrecord", [])
    chosen = {"data_dir": tmp_path, "skip_bad_records": skip}
    with pytest.raises(ValueError, match=f"{REFUSED} 4 records from {frames} on$"):
        load(level="segment", **chosen)
    with pytest.raises(ValueError, match="`files` must hold records"):
        load(level="segment", files="train0002.tfrecord", **chosen)
    assert len(ids(**chosen)) == 4
    # A rated one anywhere is enough.
    protos.write(tmp_path / "train0002.tfrecord", [RATED])
    assert ids(level="segment", **chosen) == [b"r", b"r"]


def test_not_all_frames_are_looked_through(tmp_path):
    last = protos.write(tmp_path / "last", [*unrated(1) * 999, RATED])
    youtube8m_segments.check_rated([last])
    beyond = protos.write(tmp_path / "beyond", [*unrated(1) * 1000, RATED])
    with pytest.raises(ValueError, match=f"none in 1000 records from {beyond} on"):
        youtube8m_segments.check_rated([beyond])


def test_damage_before_any_rating_is_told_as_damage(tmp_path):
    path = tmp_path / "x.tfrecord"
    protos.write(path, [*unrated(1), RATED])
    path.write_bytes(path.read_bytes()[:-20])
    chosen = {"files": str(path), "level": "segment"}
    with pytest.raises(youtube8m.RecordError, match="one that breaks off") as caught:
        with youtube8m.clear_errors():
            ids(**chosen)
    assert caught.value.record == 1
    # Left out, nothing is left.
    with pytest.raises(ValueError, match=f"{REFUSED} 1 records"):
        load(**chosen, skip_bad_records=True)
