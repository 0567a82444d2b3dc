"""Kinetics from videos: lists, order, restarts, workers, views."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from datasets import kinetics
from tests import small_videos
from tests.small_kinetics import (
    CLASSES,
    OFFICIAL,
    VIDEOS,
    flat,
    load,
    names,
    write_csv,
    write_folder,
)

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    top = tmp_path_factory.mktemp("kinetics")
    write_folder(top)
    return top


def assert_same(found, expected):
    found = list(found)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected):
        for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other)):
            np.testing.assert_array_equal(a, b)


# ---- What comes


def test_evaluation_gives_the_middle_of_each_video_once(folder):
    batches = list(load(folder, numbered=True))
    assert [len(labels) for _, labels, _ in batches] == [3, 3, 1]
    seen = []
    for inputs, labels, ids in batches:
        for clip, number, label, name in zip(
            inputs["clips"].numpy(), inputs["number"].numpy(), labels.numpy(), ids
        ):
            start = (10 + number - 4) // 2
            assert small_videos.numbers(clip) == list(range(start, start + 4))
            assert name.numpy().decode() == f"id_{number:02d}_000010_000020"
            seen.append((number, label))
    assert seen == list(enumerate(np.repeat([0, 1, 2], VIDEOS)))


def test_pixels_and_shapes(folder):
    octets = next(iter(load(folder)))[0].numpy()
    assert octets.dtype == np.uint8 and octets.shape == (3, 4, 32, 32, 3)
    symmetric = next(iter(load(folder, pixels="symmetric")))[0].numpy()
    np.testing.assert_allclose(symmetric, octets / 127.5 - 1, atol=1e-6)
    unit = next(iter(load(folder, pixels="unit")))[0].numpy()
    np.testing.assert_allclose(unit, octets / 255, atol=1e-6)
    whole = load(folder, drop_remainder=True)
    assert whole.element_spec[0].shape == (3, 4, 32, 32, 3)
    assert whole.cardinality() == len(list(whole)) == 2
    assert load(folder).cardinality() == 3
    assert load(folder, epochs=None).cardinality() == tf.data.INFINITE_CARDINALITY


def test_views_are_examples_of_their_own(folder):
    chosen = {"temporal_views": 3, "spatial_views": 2, "numbered": True}
    batches = list(load(folder, batch_size=8, **chosen))
    assert [len(labels) for _, labels, _ in batches] == [8] * 5 + [2]
    numbers = np.concatenate([inputs["number"] for inputs, _, _ in batches])
    assert numbers.tolist() == np.repeat(np.arange(7), 6).tolist()
    clips = np.concatenate([inputs["clips"] for inputs, _, _ in batches])
    for number in range(7):
        starts = np.rint(np.linspace(0, 10 + number - 4, 3)).astype(int)
        found = [small_videos.numbers(clip)[0] for clip in clips[6 * number :][:6]]
        assert found == np.repeat(starts, 2).tolist()
    one_go = load(folder, batch_size=100, **chosen)
    assert_same([next(iter(one_go))[0]["clips"]], [clips])


def test_spatial_views_lie_from_side_to_side(tmp_path):
    def ramp(picture, number):
        picture[:] = np.linspace(0, 200, picture.shape[1])[:, np.newaxis]
        return picture

    small_videos.write(tmp_path / "test/a/1.mp4", 4, size=(96, 32), paint=ramp)
    chosen = {"num_classes": 1, "short_sides": (32, 32)}
    (three,) = load(tmp_path, "test", spatial_views=3, **chosen)
    means = three[0].numpy().mean(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(means, [200 / 6, 100, 1000 / 6], atol=3)
    (one,) = load(tmp_path, "test", **chosen)
    np.testing.assert_array_equal(one[0][0], three[0][1])


# ---- Order


def test_training_is_a_new_order_and_new_clips_in_each_epoch(folder):
    dataset = load(folder, augment=True, shuffle=True, epochs=3, seed=1)
    found = list(dataset)
    assert [len(labels) for _, labels, _ in found] == [3, 3, 1] * 3
    orders = [flat(names(found[3 * n : 3 * n + 3])) for n in range(3)]
    assert all(sorted(order) == [f"{n:02d}" for n in range(7)] for order in orders)
    assert len(set(map(tuple, orders))) == 3
    clips = np.concatenate([clips for clips, _, _ in found])
    places = {order.index("06") + 7 * n for n, order in enumerate(orders)}
    assert len({clips[place].tobytes() for place in places}) == 3
    assert_same(dataset, found)


def test_the_seed_decides_whatever_the_global_seed_is(folder):
    def drawn(global_seed, seed):
        tf.random.set_seed(global_seed)
        dataset = load(folder, augment=True, shuffle=True, seed=seed, batch_size=7)
        return next(iter(dataset))[0].numpy().tobytes()

    assert drawn(1, seed=5) == drawn(2, seed=5) != drawn(1, seed=6)


@pytest.mark.parametrize("skip", [False, True])
def test_a_restart_goes_on_exactly(folder, skip):
    chosen = {"augment": True, "shuffle": True, "seed": 3, "skip_bad_records": skip}
    whole = list(load(folder, epochs=3, **chosen))
    assert_same(load(folder, epochs=3, start_batch=4, **chosen), whole[4:])
    found = load(folder, epochs=3, start_epoch=1, start_batch=4, **chosen)
    assert_same(found, whole[7:])
    endless = load(folder, epochs=None, start_epoch=2, start_batch=1, **chosen)
    assert_same(endless.take(2), whole[7:])
    assert not list(load(folder, epochs=3, start_batch=9, **chosen))


def test_a_restart_amid_a_videos_views(folder):
    chosen = {"temporal_views": 3, "batch_size": 4, "epochs": 2}
    whole = list(load(folder, **chosen))
    assert_same(load(folder, start_batch=3, **chosen), whole[3:])


@pytest.mark.parametrize("workers", [2, 5])
def test_workers_share_all_videos(folder, workers):
    for chosen in ({}, {"shuffle": True, "augment": True}):
        parts = [
            flat(names(load(folder, shard=(n, workers), **chosen)))
            for n in range(workers)
        ]
        assert sorted(sum(parts, [])) == [f"{n:02d}" for n in range(7)]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_workers_batches_are_those_of_one_device(folder):
    chosen = {"shuffle": True, "augment": True, "drop_remainder": True, "epochs": 3}
    parts = [
        names(load(folder, batch_size=2, shard=(n, 2), **chosen)) for n in range(2)
    ]
    whole = names(load(folder, batch_size=4, **chosen))  # three of seven are left over
    assert [sorted(flat(both)) for both in zip(*parts, strict=True)] == [
        sorted(batch) for batch in whole
    ]


# ---- Lists


def test_kinetics_own_csv(folder, tmp_path):
    rows = [
        (CLASSES[n % 3], f"id_{n:02d}", 10, 20, "validate" if n % 2 else "train")
        for n in range(7)
    ]
    table = write_csv(tmp_path / "kinetics.csv", OFFICIAL, rows)
    found = load(folder, annotations=table, batch_size=9)
    ((_, labels, ids),) = found
    assert labels.numpy().tolist() == [1, 0, 2]
    assert [name.numpy().decode()[:5] for name in ids] == ["id_01", "id_03", "id_05"]
    given = load(folder, annotations=table, class_names=CLASSES[::-1], batch_size=9)
    assert next(iter(given))[1].numpy().tolist() == [1, 2, 0]


def test_a_video_has_its_name_and_draws_wherever_it_comes_from(folder, tmp_path):
    """From folders, from both kinds of CSV in another order, from another layout."""
    paths = sorted(folder.rglob("*.mp4"), reverse=True)
    rows = [(path.relative_to(folder), path.parent.name) for path in paths]
    simple = write_csv(tmp_path / "simple.csv", ("path", "label"), rows)
    rows = [(path.parent.name, path.stem[:5], 10, 20) for path in paths]
    official = write_csv(tmp_path / "official.csv", OFFICIAL[:4], rows)
    (tmp_path / "flat").mkdir()
    for path in paths:
        (tmp_path / "flat" / path.name).symlink_to(path)

    def drawn(data_dir, **changes):
        ((clips, labels, ids),) = load(data_dir, augment=True, batch_size=7, **changes)
        clips = [clip.tobytes() for clip in clips.numpy()]
        return dict(zip(ids.numpy(), zip(clips, labels.numpy())))

    expected = drawn(folder)
    assert len(expected) == 7
    assert drawn(folder, annotations=simple) == expected
    for place in (folder, tmp_path / "flat"):
        assert drawn(place, annotations=official) == expected


def test_a_csv_of_paths_with_names_or_numbers(folder, tmp_path):
    paths = [f"val/yoga/id_0{n}_000010_000020.mp4" for n in (6, 5)]
    by_name = write_csv(
        tmp_path / "a.csv", ("path", "label"), [(paths[0], "b"), (paths[1], "a")]
    )
    chosen = {"num_classes": 2, "batch_size": 9}
    ((_, labels, _),) = load(folder, annotations=by_name, **chosen)
    assert labels.numpy().tolist() == [1, 0]
    numbers = [(paths[0], 2), (str(folder / paths[1]), 0)]
    table = write_csv(tmp_path / "b.csv", ("path", "label"), numbers)
    ((_, labels, _),) = load(folder, annotations=table, batch_size=9)
    assert labels.numpy().tolist() == [2, 0]
    with pytest.raises(ValueError, match="Labels must be from 0 to 1.*Received: 2"):
        load(folder, annotations=table, **chosen)


def test_a_table_in_the_folder_is_found(folder, tmp_path):
    small_videos.write(tmp_path / "videos/x_000001_000002.mkv", 6)
    write_csv(tmp_path / "train.csv", OFFICIAL[:4], [("yoga", "x", "1", "2.0")])
    ((clips, labels, _),) = load(tmp_path, "train", num_classes=1)
    assert clips.shape[0] == 1 and labels.numpy().tolist() == [0]


def test_names_of_classes_from_a_file_and_with_underscores(folder, tmp_path):
    (tmp_path / "names.txt").write_text("yoga\nbowling\nair drumming\nskiing\n")
    chosen = {"class_names": tmp_path / "names.txt", "num_classes": 4, "batch_size": 9}
    ((_, labels, _),) = load(folder, **chosen)
    assert labels.numpy().tolist() == np.repeat([2, 1, 0], VIDEOS).tolist()


def test_labels_are_the_same_whether_names_have_spaces_or_underscores(tmp_path):
    for split, second in (("train", "cat_2"), ("validate", "cat 2")):
        for number, name in enumerate(("cat1", second)):
            path = tmp_path / split / name / f"{number}.mkv"
            path.parent.mkdir(parents=True)
            small_videos.write(path, 6)
        ((_, labels, ids),) = load(tmp_path, split, num_classes=2, batch_size=2)
        found = dict(zip(ids.numpy().tolist(), labels.numpy().tolist()))
        assert found == {b"0": 1, b"1": 0}, split  # "cat 2" stands before "cat1"


def test_videos_behind_links(folder, tmp_path):
    for one in (folder / "val").iterdir():
        link = tmp_path / "val" / one.name / "disk"
        link.parent.mkdir(parents=True)
        link.symlink_to(one)
    assert_same(load(tmp_path), list(load(folder)))


# ---- Made up, and real


def test_synthetic_videos_have_the_same_form(folder):
    for changes in ({}, {"numbered": True, "pixels": "unit", "temporal_views": 2}):
        synthetic = load(None, synthetic=20, **changes)
        assert synthetic.element_spec == load(folder, **changes).element_spec
    train = list(load(None, "train", synthetic=20, batch_size=20))
    labels = collections.Counter(train[0][1].numpy().tolist())
    assert labels == {0: 7, 1: 7, 2: 6}
    ((_, labels, ids),) = load(None, "validate", synthetic=20, batch_size=20)
    assert sorted(labels.numpy()) == [0, 0, 1, 2] or len(labels) == 4
    assert not set(ids.numpy()) & set(train[0][2].numpy())


def test_real_clips(data_dir, tmp_path):
    """Thirteen clips of three data sets; one's source was damaged, and it is said."""
    videos = data_dir / "videos"
    if not videos.is_dir():
        pytest.skip("no videos there")
    paths = sorted(path for path in videos.rglob("*.*") if path.is_file())
    sources = sorted({path.parent.name for path in paths})
    table = write_csv(
        tmp_path / "a.csv",
        ("path", "label"),
        [(path, sources.index(path.parent.name)) for path in paths],
    )
    bad = kinetics.BadRecords()
    found = load(
        *(None, "test", 4),
        annotations=table,
        frames=16,
        frame_rate=25.0,
        use_damaged=True,
        skip_bad_records=True,
        bad_records=bad,
    )
    clips, labels, ids = (np.concatenate(part) for part in zip(*found))
    expected = [path for path in paths if str(path) not in {e.path for e in bad.errors}]
    assert [name.decode() for name in ids] == [path.stem for path in expected]
    assert [sources[label] for label in labels] == [p.parent.name for p in expected]
    assert len(expected) == len(paths) == 13 and not len(bad)
    (damage,) = bad.used.errors
    assert damage.path.endswith("arm_wrestling.mp4") and "8.18 seconds" in str(damage)
    # Clips are neither grey nor standing still.
    assert (clips.std(axis=(1, 2, 3, 4)) > 10).all()
    changes = np.abs(np.diff(clips.astype(int), axis=1)).mean(axis=(1, 2, 3, 4))
    assert (changes > 0.2).all()
