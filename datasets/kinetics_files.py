"""Which videos, of which classes: from a CSV or from folders of classes."""

import collections
import csv
import dataclasses
import os
from pathlib import Path

import numpy as np

from datasets.kinetics_videos import SUFFIXES
from datasets.record_errors import RecordError

# What a split is called, in the columns, files and folders of the usual copies.
SPLIT_NAMES = {
    "train": ("train",),
    "validate": ("validate", "validation", "val"),
    "test": ("test",),
}
_OFFICIAL = {"label", "youtube_id", "time_start", "time_end"}
_SIMPLE = {"path", "label"}


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """The videos of a split, in a fixed order.

    Attributes:
        paths: list of str.
        labels: int64 `[videos]`.
        class_names: list of str, or None where the list has numbers only.
        missing: list of `RecordError`, videos of the list that are not there.
    """

    paths: list
    labels: np.ndarray
    class_names: list | None
    missing: list


@dataclasses.dataclass(frozen=True)
class _Row:
    path: str | None  # None: there is none
    label: str
    shown: str  # for errors


def list_videos(
    split, data_dir=None, *, annotations=None, class_names=None, num_classes=400
):
    """Finds the videos of a split; arguments as of `kinetics.load`.

    Returns:
        `Listing`.

    Raises:
        FileNotFoundError: no such folder or CSV, or no video at all.
        ValueError: a CSV of another form, classes that do not fit, videos of one name
            or of no class.
    """
    folder = None if data_dir is None else Path(data_dir).expanduser()
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(
            f"`data_dir` must be a folder that exists. Received: data_dir={data_dir!r}"
        )
    table = _table(split, folder, annotations)
    if table is not None:
        rows, known, where = _read_table(split, table, folder)
    else:
        rows, known, where = _read_folders(split, folder)
    if not rows:
        raise FileNotFoundError(
            f"`data_dir` or `annotations` must have videos of {split!r}. Received: "
            f"{where}, which has none"
        )
    _check_names(rows)
    names = _class_names(class_names, known, num_classes, where)
    numbers = names and {plain(name): place for place, name in enumerate(names)}
    labels = [_label(row, numbers, num_classes) for row in rows]
    there = [place for place, row in enumerate(rows) if row.path is not None]
    if not there:
        raise FileNotFoundError(
            f"`data_dir` must hold the videos of {where}. Received: "
            f"data_dir={str(data_dir)!r}, which has none of {len(rows)}, such as "
            f"{rows[0].shown}"
        )
    return Listing(
        [rows[place].path for place in there],
        np.array([labels[place] for place in there], np.int64),
        names,
        [_missing(row) for row in rows if row.path is None],
    )


def video_name(path):
    """What a video is called: its file's name, whatever folder and suffix it has."""
    return Path(path).stem


def _check_names(rows):
    """Refuses a video that is there twice, and two that have one name."""
    seen = {}
    for row in rows:
        other = seen.setdefault(video_name(row.shown), row)
        if other is not row:
            raise ValueError(
                "`data_dir` or `annotations` must give each video once, and by a file "
                "name that no other has in any folder, as clips are drawn and told "
                f"apart by it. Received: {other.shown} of class {other.label!r} and "
                f"{row.shown} of class {row.label!r}"
            )


# ---- CSV


def _table(split, folder, annotations):
    """Path of the CSV; None where there are folders of classes."""
    if annotations is not None:
        path = Path(annotations).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                "`annotations` must be a CSV file that exists. "
                f"Received: annotations={str(annotations)!r}"
            )
        return path
    if folder is None:
        raise ValueError(
            "`data_dir` or `annotations` must say where the videos are. "
            "Received: neither"
        )
    for name in SPLIT_NAMES[split]:
        if (folder / f"{name}.csv").is_file():
            return folder / f"{name}.csv"
    return None


def _read_table(split, path, folder):
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = set(reader.fieldnames or ())
        lines = list(enumerate(reader, start=2))
    if not (_OFFICIAL <= columns or _SIMPLE <= columns):
        raise ValueError(
            f"{path} must have the columns path and label, or label, youtube_id, "
            f"time_start and time_end. Received: {sorted(columns)}"
        )
    needed = _SIMPLE if _SIMPLE <= columns else _OFFICIAL
    for line, values in lines:
        if any(not values[column] for column in needed):
            raise ValueError(
                f"{path} must have {', '.join(sorted(needed))} in each line. "
                f"Received: line {line}, {dict(values)}"
            )
    own = lines
    if "split" in columns:
        _check_splits(lines, path)
        own = [one for one in lines if one[1]["split"] in SPLIT_NAMES[split]]
    if needed is _SIMPLE:
        base = path.parent if folder is None else folder
        rows = [_simple_row(values, base) for _, values in own]
    else:
        rows = _official_rows(own, split, path, folder or path.parent)
    known = {values["label"] for _, values in lines}
    return rows, sorted(known, key=plain), str(path)  # as folders are sorted


def _check_splits(lines, path):
    """Refuses a line whose split is none: it would belong to no data set."""
    known = [name for names in SPLIT_NAMES.values() for name in names]
    for line, values in lines:
        if values["split"] not in known:
            raise ValueError(
                f"{path} must have one of {', '.join(known)} as split in each line. "
                f"Received: line {line}, {values['split']!r}"
            )


def _simple_row(values, base):
    path = base / values["path"]
    found = str(path) if path.is_file() else None
    return _Row(found, values["label"], str(path))


def _official_rows(lines, split, path, folder):
    stems = []
    for line, values in lines:
        try:
            start, end = (int(float(values[c])) for c in ("time_start", "time_end"))
        except ValueError:
            raise ValueError(
                f"{path} must have numbers as time_start and time_end. Received: line "
                f"{line}, {values['time_start']!r} and {values['time_end']!r}"
            ) from None
        stems.append(f"{values['youtube_id']}_{start:06d}_{end:06d}")
    found = _by_stem(_split_folder(split, folder) or folder, set(stems))
    return [
        _Row(found.get(stem), values["label"], str(folder / f"{stem}.mp4"))
        for stem, (_, values) in zip(stems, lines)
    ]


def _by_stem(folder, stems):
    """{stem: path} of the files below a folder with one of these stems."""
    found = {}
    for path in _below(folder):
        if path.suffix.lower() in SUFFIXES and path.stem in stems:
            if path.stem in found:
                raise ValueError(
                    "`data_dir` must hold each video once. Received: "
                    f"{found[path.stem]} and {path}"
                )
            found[path.stem] = str(path)
    return found


def _below(folder):
    """Files below a folder, sorted; links to folders are followed."""
    walk = os.walk(folder, followlinks=True)
    return sorted(Path(top, name) for top, _, names in walk for name in names)


# ---- Folders of classes


def _split_folder(split, folder):
    for name in SPLIT_NAMES[split]:
        if (folder / name).is_dir():
            return folder / name
    return None


def _read_folders(split, folder):
    top = _split_folder(split, folder)
    if top is None:
        names = SPLIT_NAMES[split]
        raise FileNotFoundError(
            f"`data_dir` must hold TFRecords {names[0]}*.tfrecord, a table of videos "
            f"{' or '.join(f'{name}.csv' for name in names)}, or a folder "
            f"{' or '.join(names)} with a folder for each class. Received: "
            f"data_dir={str(folder)!r}, which holds none of these"
        )
    own = [path for path in top.iterdir() if path.name[0] != "."]
    loose = [p for p in own if p.suffix.lower() in SUFFIXES and p.is_file()]
    if loose:
        raise ValueError(
            "`data_dir` must have each video in the folder of its class. Received: "
            f"{min(loose)}, which lies in none"
        )
    classes = sorted(
        (path for path in own if path.is_dir()), key=lambda path: plain(path.name)
    )
    rows = [
        _Row(str(path), one.name, str(path))
        for one in classes
        for path in _videos_of_class(one)
    ]
    return rows, [one.name for one in classes], str(top)


def _videos_of_class(folder):
    paths = [path for path in _below(folder) if path.name[0] != "."]
    others = [path for path in paths if path.suffix.lower() not in SUFFIXES]
    if others or not paths:
        raise ValueError(
            f"`data_dir` must have videos ({', '.join(SUFFIXES)}), and nothing else, "
            f"in each class folder. Received: {others[0] if others else 'none'} in "
            f"{folder}"
        )
    return paths


# ---- Classes


def read_names(given):
    """List of the names of classes; `class_names` of `kinetics.load`.

    Raises:
        FileNotFoundError: no such file.
    """
    if not isinstance(given, (str, Path)):
        return list(given)
    path = Path(given).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            "`class_names` must be a list of names, or a text file that exists. "
            f"Received: class_names={str(given)!r}"
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _class_names(given, known, num_classes, where):
    """List of the classes' names, or None where labels are numbers."""
    if given is None:
        if all(label.isdecimal() for label in known):
            return None
        source, names = where, known
    else:
        is_path = isinstance(given, (str, Path))
        source, names = f"{given}" if is_path else "`class_names`", read_names(given)
    twice = [n for n, c in collections.Counter(map(plain, names)).items() if c > 1]
    if twice:
        raise ValueError(f"{source} must name each class once. Received: {twice}")
    if len(names) != num_classes:
        remedy = "" if given is not None else "; or give all of them as `class_names`"
        raise ValueError(
            f"`num_classes` must be the number of classes{remedy}. Received: "
            f"num_classes={num_classes}, {len(names)} classes in {source}"
        )
    return names


def _label(row, numbers, num_classes):
    if numbers is None:
        number = int(row.label)
        if number >= num_classes:
            raise ValueError(
                f"Labels must be from 0 to {num_classes - 1}, as `num_classes` says. "
                f"Received: {number} for {row.shown}"
            )
        return number
    if plain(row.label) not in numbers:
        raise ValueError(
            f"Labels must be one of the {len(numbers)} `class_names`, such as "
            f"{next(iter(numbers))!r}. Received: {row.label!r} for {row.shown}"
        )
    return numbers[plain(row.label)]


def plain(name):
    """A class's name; folders have it with underscores in place of spaces."""
    return name.replace("_", " ").strip()


def _missing(row):
    text = "`video` must be there. Received: no such file."
    return RecordError(row.shown, None, "video", text)
