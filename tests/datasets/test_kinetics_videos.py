"""Videos of every kind: which frames come, how they are turned, what damage gets."""

import sys

import av
import numpy as np
import pytest

from datasets import kinetics_videos, smeared_pictures
from datasets.kinetics_clips import Form, Plan
from datasets.record_errors import RecordError
from tests import small_videos

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

WHOLE = Form(frames=40, frame_rate=None, crop=32, short_sides=(32, 32))


def read(path, form=WHOLE, use_damaged=False):
    """The clip and the damage."""
    plan, cuts, damage = kinetics_videos.read(
        str(path), lambda times: Plan(times, "a", 0, form), use_damaged
    )
    return np.stack(cuts)[plan.index[0], 0], damage


def noisy(picture, number):
    """Frames of more than a few bytes, as damage must hit one."""
    noise = np.random.default_rng(number).integers(-3, 4, picture.shape)
    return (picture + noise).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".webm"])
def test_every_frame_comes_once_and_in_order(tmp_path, suffix):
    path = small_videos.write(tmp_path / f"a{suffix}")
    clip, damage = read(path)
    assert small_videos.numbers(clip) == list(range(40)) and damage is None
    times, damage = kinetics_videos.scan(path)
    np.testing.assert_allclose(times - times[0], np.arange(40) / 25, atol=1e-3)


@pytest.mark.parametrize("rate", [10, 24, 50])
def test_frames_are_taken_by_time(tmp_path, rate):
    path = small_videos.write(tmp_path / "a.mp4", 50, rate=rate)
    form = Form(frames=12, stride=2, frame_rate=25.0, crop=32, short_sides=(32, 32))
    moments = round(49 / rate * 25) + 1
    start = max(0, moments - 23) // 2
    clip, _ = read(path, form)
    shown = np.array([(start + 2 * n) % moments / 25 * rate for n in range(12)])
    found = np.array(small_videos.numbers(clip))
    assert (np.abs(found - shown) <= 0.5 + 1e-6).all()


def test_a_variable_frame_rate(tmp_path):
    times = [0, 40, 90, 400, 420, 430, 1000]
    path = small_videos.write(tmp_path / "a.mkv", 7, times=times)
    form = Form(frames=11, frame_rate=10.0, crop=32, short_sides=(32, 32))
    clip, _ = read(path, form)
    assert small_videos.numbers(clip) == [0, 2, 2, 3, 3, 5, 5, 5, 6, 6, 6]


def test_times_in_disorder_are_put_in_order(monkeypatch):
    """As FFmpeg gives them of packed bitstreams; made up, as it writes none."""
    stamps = [1, 4, 3, 6, 5, 8, 7, 9]
    frames = ((float(stamp), number) for number, stamp in enumerate(stamps))
    found = list(kinetics_videos._in_order(frames))
    assert found == [(float(s), n) for n, s in enumerate(sorted(stamps))]


def test_odd_sizes(tmp_path):
    path = small_videos.write(tmp_path / "a.mp4", size=(65, 47), codec="mpeg4")
    clip, _ = read(path)
    assert small_videos.numbers(clip) == list(range(40))


@pytest.mark.parametrize(
    "kind, white",
    [
        ("a quarter clockwise", (0, 1)),
        ("a half", (1, 1)),
        ("a quarter back", (1, 0)),
        ("left to right", (0, 1)),
        ("upside down", (1, 0)),
        ("about the diagonal", (0, 0)),
    ],
)
def test_a_video_is_shown_as_its_matrix_says(tmp_path, kind, white):
    def corner(picture, number):
        picture[:] = 20
        picture[: picture.shape[0] // 2, : picture.shape[1] // 2] = 220
        return picture

    path = small_videos.write(tmp_path / "a.mp4", 4, paint=corner)
    form = Form(frames=4, frame_rate=None, crop=32, short_sides=(32, 32))
    upright, _ = read(path, form)
    small_videos.turn(path, kind)
    turned, _ = read(path, form)

    def bright(clip):
        corners = [(row, column) for row in (0, 1) for column in (0, 1)]
        return [at for at in corners if clip[0, 2 + 27 * at[0], 2 + 27 * at[1], 0] > 99]

    assert bright(upright) == [(0, 0)]
    assert bright(turned) == [white]


def test_metadata_that_are_no_utf8_do_not_matter(tmp_path):
    path = tmp_path / "a.avi"
    small_videos.write(path)
    octets = path.read_bytes()
    software = octets.index(b"Lavf")
    path.write_bytes(octets[:software] + b"\xff\xfe\xe9L" + octets[software + 4 :])
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    assert small_videos.numbers(read(path)[0]) == list(range(40))


# ---- Bad input


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".webm"])
def test_a_video_that_breaks_off(tmp_path, suffix):
    path = small_videos.write(tmp_path / f"a{suffix}", paint=noisy)
    small_videos.cut_off(path, 0.6)
    rule = "`video` must be whole.*Received: one of 1.60 seconds that breaks off after"
    with pytest.raises(RecordError, match=rule) as caught:
        read(path)
    assert caught.value.path == path and caught.value.record is None
    assert str(caught.value).endswith(f"In {path}.")
    clip, damage = read(path, use_damaged=True)
    assert str(damage) == str(caught.value)
    found = small_videos.numbers(clip)
    whole = max(found) + 1
    # What comes before, looped as a short video is; nothing of what comes after.
    assert 5 < whole < 40 and found == [n % whole for n in range(40)]


def test_damage_in_the_middle(tmp_path):
    path = small_videos.write(tmp_path / "a.mp4", codec="mpeg4")
    small_videos.blot(path, 25)
    with pytest.raises(RecordError, match="one damaged at 0.9.* seconds"):
        read(path)
    clip, damage = read(path, use_damaged=True)
    assert damage is not None
    assert small_videos.numbers(clip) == [*range(25), *range(15)]


def test_damage_is_found_wherever_the_clip_lies(tmp_path):
    """Or a video would be damaged in one epoch and not in the next."""
    path = small_videos.write(tmp_path / "a.mp4", codec="mpeg4")
    small_videos.blot(path, 35)
    first = Form(frames=1, frame_rate=None, crop=32, short_sides=(32, 32))
    with pytest.raises(RecordError, match="must be whole"):
        kinetics_videos.read(path, lambda times: Plan(times[:1], "a", 0, first))


def test_smeared_pictures_are_used_and_reported(tmp_path):
    """As a decoder leaves them, and as they were then encoded anew."""

    def paint(picture, number, smeared=(20, 21)):
        picture = noisy(picture, number)
        if number in smeared:
            picture[30:] = picture[30]
        return picture

    path = small_videos.write(tmp_path / "a.mp4", paint=paint)
    clip, damage = read(path)
    assert small_videos.numbers(clip) == list(range(40))
    assert "must show whole pictures. Received: one smeared" in str(damage)
    assert "at 0.80 seconds" in str(damage) and damage.path == path
    for kind in ("plain.mp4", "noisy.mkv"):
        plain = None if kind == "plain.mp4" else noisy
        path = small_videos.write(tmp_path / kind, paint=plain)
        assert read(path)[1] is None


@pytest.mark.parametrize("kind", ["yuv420p", "yuv420p10le", "rgb24", "gray"])
def test_the_brightness_of_frames_of_any_kind(kind):
    levels = np.random.default_rng(0).integers(30, 220, (48, 70, 1), np.uint8)
    frame = av.VideoFrame.from_ndarray(levels.repeat(3, axis=2), format="rgb24")
    luma = smeared_pictures.luma_of(frame.reformat(format=kind)).astype(int)
    assert luma.shape == (48, 70)
    # Video keeps 219 levels where pictures have 255. FFmpeg's conversion to ten bits
    # gives eight pixels otherwise in about one of 300 calls: not by 0.999, then.
    assert np.corrcoef(luma.ravel(), levels.ravel())[0, 1] > 0.99


def test_no_video_at_all(tmp_path):
    text = tmp_path / "a.mp4"
    text.write_text("This is no video.")
    with pytest.raises(RecordError, match="must be a file that FFmpeg can open"):
        read(text)
    with pytest.raises(RecordError, match="No such file"):
        read(tmp_path / "none.mp4")


def test_sound_only(tmp_path):
    path = str(tmp_path / "a.mkv")
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(RecordError, match="must have a stream of pictures.*none"):
        read(path)


def test_no_frames(tmp_path):
    path = str(tmp_path / "a.avi")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    for use_damaged in (False, True):
        with pytest.raises(RecordError, match="at least one frame. Received: none"):
            read(path, use_damaged=use_damaged)


def test_pyav_is_missing(monkeypatch, tmp_path):
    path = small_videos.write(tmp_path / "a.mp4", 2)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'ensemble-heads\[recipes\]'"):
        read(path)
