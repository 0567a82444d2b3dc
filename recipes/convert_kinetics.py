r"""Videos to TFRecords of JPEG frames, which cost half of the CPU time to read.

    python recipes/convert_kinetics.py --data_dir=… --split=train --workdir=records
    python recipes/convert_kinetics.py --data_dir=… --split=validate --workdir=records

Finds the videos as `datasets/kinetics.py` does: by a CSV, Kinetics' own among them, or
by folders of classes. Writes shards `train-00000-of-00940.tfrecord`, over which the
videos are spread at random, and beside each a JSON file that tells where its records
start and what could not be read. Stopped at any moment, the same command goes on with
the first shard that is missing; the shards are the same, byte for byte.

Videos that are missing, hold no frames or are damaged are left out and counted; at the
end `train_left_out.jsonl` has them all, with the reasons. `--use_damaged` keeps of a
damaged video what comes before its damage, and lists that too. A video whose pictures
are smeared, as its source was damaged, is kept whole and listed.
"""

import concurrent.futures
import hashlib
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from datasets import (
    kinetics,
    kinetics_conversion,
    kinetics_files,
    kinetics_records,
    kinetics_videos,
)
from ensemble_heads import provenance
from recipes import common, folders
from recipes.common import SettingError, setting


@dataclass(frozen=True)
class Settings(common.Settings):
    """What is converted, and into what."""

    data_dir: str | None = setting(None, "Folder of the videos.")
    split: str = setting("train", f"One of {', '.join(kinetics.SPLITS)}.")
    annotations: str | None = setting(None, "CSV of the videos.")
    class_names: str | None = setting(None, "Text file of the classes, one a line.")
    num_classes: int = setting(kinetics.CLASSES, "How many classes there must be.")
    short_side: int = setting(320, "Pixels that a short side has at most.")
    frame_rate: float | None = setting(25.0, "Frames a second; none keeps all.")
    quality: int = setting(90, "Of the JPEGs, 1 to 95.")
    use_damaged: bool = setting(False, "Keep what comes before a video's damage.")
    shard_size: int = setting(256, "Videos in a shard, at most.")
    seed: int = setting(0, "Spreads the videos over the shards.")
    jobs: int = setting(os.cpu_count() or 1, "Videos that are read at a time.")

    def __post_init__(self):
        super().__post_init__()
        self.require_among(kinetics.SPLITS, "split")
        self.require_at_least(1, "num_classes", "short_side", "shard_size", "jobs")
        self.require_at_least(0, "seed")
        self.require("quality", 1 <= self.quality <= 95, "be from 1 to 95")
        rate = self.frame_rate
        self.require("frame_rate", rate is None or rate > 0, "be above 0, or none")


NAME = "convert_kinetics"
PRESETS = {"default": Settings()}
# What decides what is in the shards, besides the list of videos.
_DECIDING = ("short_side", "frame_rate", "quality", "shard_size", "seed", "use_damaged")
_CONVERSION, _LEFT_OUT = "_conversion.json", "_left_out.jsonl"  # after the split
_GIGABYTE = 1e9


def main(settings, options, console=None):
    """Converts a split, or what is left of it, and reports.

    Args:
        settings: `Settings`.
        options: `common.Options`.
        console: `rich.console.Console`.

    Raises:
        SettingError: a workdir that holds something else.
    """
    console = console or Console()
    line, split = provenance.tensorflow_line(), settings.split
    workdir = options.workdir or Path(
        common.DEFAULT_FOLDER, NAME, f"{options.preset}_tf{line}"
    )
    try:
        kinetics_videos.import_av()
        listing = kinetics_files.list_videos(
            split,
            settings.data_dir,
            annotations=settings.annotations,
            class_names=settings.class_names,
            num_classes=settings.num_classes,
        )
    except (FileNotFoundError, ImportError, ValueError) as error:
        sys.exit(str(error))
    folders.make_writable(workdir)
    if options.overwrite:
        _remove(workdir, split)
    if listing.class_names:
        _keep_classes(workdir / kinetics_records.CLASSES, listing.class_names)
    _keep(workdir / f"{split}{_CONVERSION}", _identity(settings, listing))
    shards = kinetics_conversion.plan_shards(
        listing, split, workdir, settings.shard_size, settings.seed
    )
    form = kinetics_conversion.FrameForm(
        *(settings.short_side, settings.frame_rate),
        *(settings.quality, settings.use_damaged),
    )
    started = time.time()
    _convert_shards(shards, form, settings.jobs, console)
    _report(workdir, split, shards, listing, time.time() - started, console)


def _remove(workdir, split):
    """Removes what was written for a split, and the classes with the last split."""
    for pattern in ("-*-of-*.tfrecord", "-*-of-*.json", _CONVERSION, _LEFT_OUT):
        for path in workdir.glob(f"{split}{pattern}"):
            path.unlink()
    if not list(workdir.glob(f"*{_CONVERSION}")):
        folders.remove(workdir / kinetics_records.CLASSES)


def _convert_shards(shards, form, jobs, console):
    left = [shard for shard in shards if not shard.is_done]
    if len(left) < len(shards):
        console.print(f"{len(shards) - len(left)} of {len(shards)} shards are there.")
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("videos, time left"),
        TimeRemainingColumn(),
        TextColumn("so far"),
        TimeElapsedColumn(),
        console=console,
        speed_estimate_period=120,
        transient=True,
    )
    with progress, concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        task = progress.add_task("", total=sum(len(one.videos) for one in left))
        for shard in left:
            progress.update(task, description=shard.path.name)
            kinetics_conversion.convert_shard(
                shard, form, pool, 2 * jobs, lambda: progress.advance(task)
            )


def _identity(settings, listing):
    """Dict that says of what and how the shards are made."""
    rows = zip(listing.paths, listing.labels.tolist())
    text = "\n".join(f"{Path(path).name},{label}" for path, label in rows)
    videos = {
        "videos": len(listing.paths),
        "videos_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "num_classes": settings.num_classes,
    }
    return videos | {name: getattr(settings, name) for name in _DECIDING}


def _keep(file, identity):
    """Writes down what is converted, or checks that it is the same as before."""
    if not file.exists():
        folders.write_whole(file, json.dumps(identity, indent=2) + "\n")
        return
    found = json.loads(file.read_text(encoding="utf-8"))
    if found != identity:
        names = [
            f"{key} is {found.get(key)} there and {identity.get(key)} here"
            for key in sorted(found.keys() | identity.keys())
            if found.get(key) != identity.get(key)
        ]
        rule = (
            f"hold no shards made otherwise, but {'; '.join(names)}. Choose another "
            "folder, or pass --overwrite to throw those shards away"
        )
        raise SettingError("workdir", rule, file.parent)


def _keep_classes(file, names):
    text = "".join(f"{name}\n" for name in names)
    if file.exists() and file.read_text(encoding="utf-8") != text:
        rule = f"have the same classes for all splits ({file.name})"
        raise SettingError("workdir", rule, file.parent)
    folders.write_whole(file, text)


def _report(workdir, split, shards, listing, seconds, console):
    """Prints what is there now, and writes the list of what could not be read."""
    told = [json.loads(shard.told.read_text(encoding="utf-8")) for shard in shards]
    missing = [{"path": e.path, "reason": str(e)} for e in listing.missing]
    left_out = missing + [row for one in told for row in one["left_out"]]
    damaged = [row | {"used": True} for one in told for row in one["used"]]
    records = sum(len(one["starts"]) for one in told)
    octets = sum(one["bytes"] for one in told)
    file = workdir / f"{split}{_LEFT_OUT}"
    folders.write_json_lines(file, left_out + damaged)
    console.print(
        f"{workdir} has {records:,} videos of {split} in {len(shards):,} shards, "
        f"{octets / _GIGABYTE:,.2f} GB. This took {seconds:,.0f} s.",
        highlight=False,
        soft_wrap=True,
    )
    if left_out or damaged:
        console.print(
            f"Left out {len(left_out):,} videos ({len(missing):,} are not there), "
            f"used {len(damaged):,} damaged ones whole or in part: {file}",
            highlight=False,
            soft_wrap=True,
        )


if __name__ == "__main__":
    common.run(main, PRESETS)
