"""Which frames make a clip, and what is cut out of them: against plain loops."""

import collections

import numpy as np
import pytest
from PIL import Image

from datasets import kinetics_clips
from datasets.kinetics_clips import Form, Plan

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]


def nearest_by_loop(times, moment):
    return min(range(len(times)), key=lambda n: (abs(times[n] - moment), n))


@pytest.mark.parametrize("rate", [10, 12, 24, 30000 / 1001, 25, 50])
def test_frames_are_the_nearest_in_time_whatever_the_rate(rate):
    times = 3.0 + np.arange(40) / rate
    form = Form(frames=20, stride=2, frame_rate=25.0)
    plan = Plan(times, "a", 0, form)
    moments = int(round(39 / rate * 25)) + 1
    free = max(0, moments - 39)
    places = [(free // 2 + 2 * n) % moments for n in range(20)]
    expected = [times[nearest_by_loop(times, 3.0 + place / 25)] for place in places]
    np.testing.assert_array_equal(plan.wanted[plan.index[0]], expected)
    assert len(set(plan.wanted)) == len(plan.wanted)


def test_irregular_times_are_followed():
    times = np.array([0.0, 0.04, 0.09, 0.4, 0.42, 0.43, 1.0])
    plan = Plan(times, "a", 0, Form(frames=11, stride=1, frame_rate=10.0))
    # At 0.0, 0.1, … 1.0 seconds.
    expected = [0, 2, 2, 3, 3, 5, 5, 5, 6, 6, 6]
    found = [nearest_by_loop(times, time) for time in plan.wanted[plan.index[0]]]
    assert found == expected


def test_the_videos_own_rate_takes_every_frame():
    times = np.arange(33) * 1001 / 24000
    plan = Plan(times, "a", 0, Form(frames=33, frame_rate=None))
    np.testing.assert_array_equal(plan.wanted[plan.index[0]], times)


@pytest.mark.parametrize("available, loops", [(1, 10), (4, 3), (9, 2)])
def test_short_videos_are_looped(available, loops):
    expected = (list(range(available)) * loops)[:10]
    for draw in (None, 0.7):
        (places,) = kinetics_clips.clip_places(available, 10, 1, 1, draw)
        assert places.tolist() == expected


def test_one_frame_is_enough():
    plan = Plan(np.array([7.0]), "a", 0, Form(frames=5))
    assert plan.wanted.tolist() == [7.0] and plan.index.tolist() == [[0] * 5]


def test_views_reach_from_the_first_frame_to_the_last():
    places = kinetics_clips.clip_places(100, 10, 3, 4)
    assert places[:, 0].tolist() == [0, 24, 48, 72] and places[-1, -1] == 99
    assert (np.diff(places) == 3).all()
    (middle,) = kinetics_clips.clip_places(100, 10, 3, 1)
    assert (middle[0], middle[-1]) == (36, 63)


def test_training_starts_anywhere_equally_often():
    form = Form(frames=4, stride=2, frame_rate=25.0, augment=True)
    times = np.arange(12) / 25  # six starts
    starts = collections.Counter(
        round(25 * Plan(times, f"{n}", 0, form).wanted[0]) for n in range(1200)
    )
    assert set(starts) == set(range(6))
    assert all(150 < count < 250 for count in starts.values())  # 200 +- 4 sigma


def test_draws_depend_on_seed_epoch_and_name_only():
    def drawn(name, epoch, seed):
        picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
        form = Form(frames=2, crop=32, short_sides=(40, 60), augment=True, seed=seed)
        plan = Plan(np.arange(200) / 25, name, epoch, form)
        return plan.wanted.tobytes() + plan.cut(picture).tobytes()

    keys = [("a", 0, 0), ("b", 0, 0), ("a", 1, 0), ("a", 0, 1)]
    found = [drawn(*key) for key in keys]
    assert found == [drawn(*key) for key in keys]
    assert len(set(found)) == len(keys)


@pytest.mark.parametrize("size", [(48, 64), (97, 63), (200, 200), (31, 47)])
@pytest.mark.parametrize("views", [1, 3])
def test_a_cut_is_that_of_the_resized_frame(size, views):
    """Resizing the part that is wanted gives what resizing all and cutting gives."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = np.sin(rows / 5.0)[..., None] + np.cos(columns[..., None] / [4.0, 7.0, 9.0])
    picture = (127.5 + 60 * waves).astype(np.uint8)
    form = Form(crop=32, short_sides=(40, 50), spatial_views=views)
    found = Plan(np.zeros(1), "a", 0, form).cut(picture)

    scale = 40 / min(size)
    height, width = (round(side * scale) for side in size)
    whole = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    longer = max(height, width) - 32
    along = [longer // 2] if views == 1 else [0, round(longer / 2), longer]
    for one, place in zip(found, along, strict=True):
        top, left = (4, place) if width > height else (place, 4)
        expected = np.asarray(whole)[top : top + 32, left : left + 32]
        # Either way rounds twice: after the rows and after the columns.
        assert np.abs(one.astype(int) - expected).max() <= 2


def test_random_cuts_lie_in_the_frame_and_reach_its_corners():
    draws = dict.fromkeys(("side", "top", "left"), 0.0)
    ((*corner, right, bottom),) = kinetics_clips.crop_boxes(
        240, 320, 224, (256, 320), 1, draws
    )
    assert corner == [0.0, 0.0]
    assert (right, bottom) == pytest.approx((210.0, 210.0), abs=0.3)
    draws = dict.fromkeys(draws, 1 - 1e-9)
    (box,) = kinetics_clips.crop_boxes(240, 320, 224, (256, 320), 1, draws)
    assert box[2:] == (320.0, 240.0)
    assert box[2] - box[0] == pytest.approx(224 * 240 / 320, abs=0.3)


def test_half_of_the_clips_are_mirrored():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, :16] = 200
    form = Form(crop=32, short_sides=(32, 32), augment=True)
    mirrored = 0
    for number in range(200):
        (cut,) = Plan(np.zeros(1), f"{number}", 0, form).cut(picture)
        assert np.array_equal(cut, picture) or np.array_equal(cut, picture[:, ::-1])
        mirrored += cut[0, 0, 0] == 0
    assert 70 < mirrored < 130
