"""Where clips come from: videos, TFRecords of frames, or nowhere.

Each source has a length, which is its number of videos, and a method `read(number,
plan_of)`. `plan_of(times, name)` is given when the video's frames are shown and what it
is called, and returns a `kinetics_clips.Plan`.
"""

import dataclasses

import numpy as np

from datasets import kinetics_files, kinetics_records, kinetics_videos
from datasets.kinetics_clips import nearest
from datasets.record_errors import RecordError


@dataclasses.dataclass(frozen=True, eq=False)
class Taken:
    """What was taken of a video.

    Attributes:
        name: str.
        label: int.
        plan: `kinetics_clips.Plan`.
        cuts: list of what the plan cut out of each wanted frame.
        damage: `RecordError` of a damaged video of which a part was used, or None.
    """

    name: str
    label: int
    plan: object
    cuts: list
    damage: RecordError | None = None


class VideoSource:
    """Video files.

    Args:
        listing: `kinetics_files.Listing`.
        use_damaged: bool, take what comes before a video's damage.
    """

    def __init__(self, listing, use_damaged):
        kinetics_videos.import_av()
        self._listing, self._use_damaged = listing, use_damaged

    def __len__(self):
        return len(self._listing.paths)

    def read(self, number, plan_of):
        path = self._listing.paths[number]
        name = kinetics_files.video_name(path)
        plan, cuts, damage = kinetics_videos.read(
            path, lambda times: plan_of(times, name), self._use_damaged
        )
        return Taken(name, int(self._listing.labels[number]), plan, cuts, damage)


class RecordSource:
    """TFRecords of JPEG frames.

    Args:
        paths: list of str.
        num_classes: int.
        frame_rate: frames a second of records without times.
    """

    def __init__(self, paths, num_classes, frame_rate):
        kinetics_records.check_classes(paths, num_classes)
        self._paths, self._num_classes = paths, num_classes
        self._frame_rate, self._index = frame_rate, kinetics_records.index(paths)
        if not len(self._index):
            raise ValueError(
                f"`files` must hold records. Received: {len(paths)} without any, such "
                f"as {paths[0]}"
            )

    def __len__(self):
        return len(self._index)

    def read(self, number, plan_of):
        file, place, start = self._index[number].tolist()
        record = kinetics_records.Record(
            self._paths[file], place, start, self._num_classes, self._frame_rate
        )
        plan = plan_of(record.times, record.name)
        frames = nearest(record.times, plan.wanted).tolist()
        cuts = [plan.cut(record.picture(frame)) for frame in frames]
        return Taken(record.name, record.label, plan, cuts)


class SyntheticSource:
    """Coloured waves: their colour, direction and speed are those of a class.

    Args:
        count, num_classes: int >= 1.
        split: str; splits share the classes and no video.
        seconds: how long a video lasts.
    """

    _SIZE = (72, 96)  # height, width
    _FRAME_RATE = 25.0
    _NOISE = 12.0  # grey levels

    def __init__(self, count, num_classes, split, seconds):
        self._count, self._num_classes, self._split = count, num_classes, split
        frames = int(np.ceil(seconds * self._FRAME_RATE)) + 1
        self._times = np.arange(frames) / self._FRAME_RATE

    def __len__(self):
        return self._count

    def read(self, number, plan_of):
        name, label = f"{self._split}-{number}", number % self._num_classes
        plan = plan_of(self._times, name)
        key = [int.from_bytes(self._split.encode(), "little"), number]
        start = np.random.default_rng(key).random()
        cuts = []
        for frame in nearest(self._times, plan.wanted).tolist():
            noise = np.random.default_rng([*key, frame])
            wave = self._wave(label, self._times[frame], start)
            wave += noise.normal(0.0, self._NOISE, wave.shape)
            cuts.append(plan.cut(np.clip(wave, 0, 255).astype(np.uint8)))
        return Taken(name, label, plan, cuts)

    def _wave(self, label, time, start):
        """float `[height, width, 3]`, grey levels."""
        random = np.random.default_rng([label])
        colour, along = random.uniform(20.0, 60.0, 3), random.uniform(-3.0, 3.0, 2)
        colour = colour * random.choice([-1.0, 1.0], 3)
        speed = random.uniform(-2.0, 2.0)  # waves a second
        height, width = self._SIZE
        rows = np.arange(height)[:, np.newaxis] / height * along[0]
        phase = rows + np.arange(width) / width * along[1] - speed * time + start
        return 128.0 + np.sin(2 * np.pi * phase)[..., np.newaxis] * colour
