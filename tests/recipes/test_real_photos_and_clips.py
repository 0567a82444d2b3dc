"""Real photographs and clips, from files to models that learn them by heart."""

import csv

import pytest

from recipes import common, convert_kinetics
from tests.script_runs import result_of, run_recipe

pytestmark = [pytest.mark.slow, pytest.mark.line("2.21")]

COMMON = ("--log_every=20", "--strategy=default")


def test_photographs_are_learnt_by_heart(data_dir, tmp_path):
    """As many classes as photographs; they are cut, mirrored and coloured anew."""
    photos = sorted((data_dir / "imagenet_samples").glob("*.JPEG"))
    for photo in photos:
        for part in ("train", "val"):
            folder = tmp_path / "photos" / part / photo.name.partition("_")[0]
            folder.mkdir(parents=True)
            (folder / photo.name).symlink_to(photo)
    count = len(photos)
    run_recipe(
        *("imagenet_resnet", f"--data_dir={tmp_path / 'photos'}", *COMMON),
        *(f"--workdir={tmp_path / 'runs'}", "--models=resnet18", "--units=1"),
        *(f"--num_classes={count}", "--image_size=32", f"--batch_size={count}"),
        *("--steps=100", "--evaluate_every=100", "--checkpoint_every=100"),
        *("--learning_rate=8", "--label_smoothing=0"),
    )
    metrics = result_of(tmp_path / "runs" / "resnet18-seed0")["metrics"]
    assert metrics["examples"] == count and metrics["accuracy"] > 0.5


def test_clips_are_learnt_by_heart_and_the_damaged_one_is_reported(data_dir, tmp_path):
    """Trained on as records, evaluated as the videos that they were made of."""
    videos = sorted(p for p in (data_dir / "videos").rglob("*.*") if p.is_file())
    table = tmp_path / "clips.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("path", "label"), *((path, path.stem) for path in videos)]
        )
    count = len(videos)
    records = tmp_path / "records"
    convert_kinetics.main(
        convert_kinetics.Settings(
            *(str(data_dir / "videos"), "train", str(table)),
            num_classes=count,
            short_side=64,
        ),
        common.Options(workdir=records),
    )
    told = (records / "train_left_out.jsonl").read_text(encoding="utf-8")
    assert told.count("\n") == 1 and "arm_wrestling.mp4" in told
    printed = run_recipe(
        *("kinetics_s3dg", f"--data_dir={records}", *COMMON),
        *(f"--evaluation_annotations={table}", f"--workdir={tmp_path / 'runs'}"),
        *("--models=s3dg", f"--num_classes={count}", "--width=0.25", "--blocks=1"),
        *("--frames=8", "--stride=4", "--crop=48", "--short_sides=56,64"),
        *(f"--batch_size={count}", "--steps=60", "--learning_rate=16"),
        *("--evaluate_every=60", "--checkpoint_every=60"),
        *("--dropout=0", "--batch_norm_momentum=0.9"),
    )
    assert "Used, whole or in part, 1 bad records" in printed
    assert "arm_wrestling.mp4" in printed
    metrics = result_of(tmp_path / "runs" / "s3dg-seed0")["metrics"]
    assert metrics["examples"] == count
    assert metrics["accuracy"] > 0.3  # four times chance; how fast differs by threads
