"""A small data set of the form of Kinetics: seven videos of three classes."""

import csv

from datasets import kinetics
from tests import small_videos

CLASSES = ("air drumming", "bowling", "yoga")
VIDEOS = [3, 2, 2]  # of each class
SMALL = {
    "num_classes": 3,
    "frames": 4,
    "frame_rate": None,
    "crop": 32,
    "short_sides": (32, 40),
    "pixels": "bytes",
    "with_ids": True,
}
OFFICIAL = ("label", "youtube_id", "time_start", "time_end", "split")


def write_folder(top):
    """Folders of classes; each video has one more frame than the one before."""
    number = 0
    for name, count in zip(CLASSES, VIDEOS):
        for _ in range(count):
            stem = f"id_{number:02d}_000010_000020"
            place = top / "val" / name.replace(" ", "_") / f"{stem}.mp4"
            small_videos.write(place, 10 + number, codec="mpeg4")
            number += 1


def load(data_dir, split="validate", batch_size=3, **changes):
    return kinetics.load(split, data_dir, batch_size, **{**SMALL, **changes})


def names(dataset):
    return [[name.decode()[3:5] for name in element[-1].numpy()] for element in dataset]


def flat(batches):
    return [name for batch in batches for name in batch]


def write_csv(path, columns, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path
