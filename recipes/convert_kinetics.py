r"""Videos to TFRecords of JPEG frames, which are read faster than videos.

    python recipes/convert_kinetics.py --data_dir=… --split=train --output=records
    python recipes/convert_kinetics.py --data_dir=… --split=validate --output=records

Finds the videos as `datasets/kinetics.py` does: by a CSV, Kinetics' own among them, or
by folders of classes. Writes shards `train-00000-of-00940.tfrecord`, over which the
videos are spread at random, and beside each a JSON file that tells where its records
start and what could not be read. Stopped at any moment, the same command goes on with
the first shard that is missing; the shards are the same, byte for byte.

Videos that are missing, hold no frames or are damaged are left out and counted; at the
end `train_left_out.jsonl` has them all, with the reasons. `--use_damaged` keeps of a
damaged video what comes before its damage, and lists that too.

Kinetics-400 has some 240,000 clips of 10 seconds: at the default settings about 3.5 MB
each, 0.8 TB in all, and about 0.7 s each of a CPU core.
"""

import concurrent.futures
import hashlib
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from datasets import kinetics, kinetics_conversion, kinetics_files, kinetics_records
from recipes import folders
from recipes.common import SettingError

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "Folder of the videos.")
flags.DEFINE_enum("split", "train", kinetics.SPLITS, "Which part to convert.")
flags.DEFINE_string("annotations", None, "CSV of the videos; default: see `load`.")
flags.DEFINE_string("class_names", None, "Text file of the classes, one a line.")
flags.DEFINE_integer("num_classes", kinetics.CLASSES, "How many there must be.", 1)
flags.DEFINE_string("output", None, "Folder to write the shards to.")
flags.DEFINE_integer("short_side", 320, "Pixels that a short side has at most.", 1)
flags.DEFINE_float("frame_rate", 25.0, "Frames a second; 0 keeps all as they are.", 0)
flags.DEFINE_integer("quality", 90, "Of the JPEGs.", 1, 95)
flags.DEFINE_integer("shard_size", 256, "Videos in a shard, at most.", 1)
flags.DEFINE_integer("seed", 0, "Spreads the videos over the shards.", 0)
flags.DEFINE_integer("jobs", os.cpu_count() or 1, "Videos read at a time.", 1)
flags.DEFINE_bool("use_damaged", False, "Keep what comes before a video's damage.")
flags.mark_flags_as_required(["data_dir", "output"])

# What decides what is in the shards, besides the list of videos.
_SETTINGS = ("short_side", "frame_rate", "quality", "shard_size", "seed", "use_damaged")
_GIGABYTE = 1e9


def main(arguments):
    if arguments[1:]:
        sys.exit(f"Only flags are taken. Received: {' '.join(arguments[1:])}")
    try:
        convert(FLAGS, Console())
    except SettingError as error:
        sys.exit(error.as_flag())
    except (ImportError, FileNotFoundError, ValueError) as error:
        sys.exit(str(error))


def convert(settings, console):
    """Converts a split, or what is left of it, and reports.

    Args:
        settings: object with the flags as attributes.
        console: `rich.console.Console`.

    Raises:
        SettingError: the output holds something else.
        FileNotFoundError, ValueError: of `kinetics_files.list_videos`.
    """
    split, output = settings.split, Path(settings.output).expanduser()
    listing = kinetics_files.list_videos(
        split,
        settings.data_dir,
        annotations=settings.annotations,
        class_names=settings.class_names,
        num_classes=settings.num_classes,
    )
    shards = kinetics_conversion.plan_shards(
        listing, split, output, settings.shard_size, settings.seed
    )
    folders.make_writable(output)
    _keep(output / f"{split}_conversion.json", _identity(settings, listing))
    if listing.class_names:
        _keep_classes(output / kinetics_records.CLASSES, listing.class_names)
    form = kinetics_conversion.FrameForm(
        settings.short_side,
        settings.frame_rate or None,
        settings.quality,
        settings.use_damaged,
    )
    started = time.time()
    _convert_shards(shards, form, settings.jobs, console)
    _report(output, split, shards, listing, time.time() - started, console)


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
    return videos | {name: getattr(settings, name) for name in _SETTINGS}


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
        rule = f"hold no shards made otherwise ({file.name}): {'; '.join(names)}"
        raise SettingError("output", rule, file.parent)


def _keep_classes(file, names):
    text = "".join(f"{name}\n" for name in names)
    if file.exists() and file.read_text(encoding="utf-8") != text:
        rule = f"have the same classes for all splits ({file.name})"
        raise SettingError("output", rule, file.parent)
    folders.write_whole(file, text)


def _report(output, split, shards, listing, seconds, console):
    """Prints what is there now, and writes the list of what could not be read."""
    told = [json.loads(shard.told.read_text(encoding="utf-8")) for shard in shards]
    missing = [{"path": e.path, "reason": str(e)} for e in listing.missing]
    left_out = missing + [row for one in told for row in one["left_out"]]
    in_part = [row | {"used": True} for one in told for row in one["used_in_part"]]
    records = sum(len(one["starts"]) for one in told)
    octets = sum(one["bytes"] for one in told)
    file = output / f"{split}_left_out.jsonl"
    folders.write_json_lines(file, left_out + in_part)
    console.print(
        f"{output} has {records:,} videos of {split} in {len(shards):,} shards, "
        f"{octets / _GIGABYTE:,.2f} GB. This took {seconds:,.0f} s.",
        highlight=False,
        soft_wrap=True,
    )
    if left_out or in_part:
        console.print(
            f"Left out {len(left_out):,} videos ({len(missing):,} are not there), "
            f"used a part of {len(in_part):,}: {file}",
            highlight=False,
            soft_wrap=True,
        )


if __name__ == "__main__":
    app.run(main)
