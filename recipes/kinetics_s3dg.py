r"""EnsembleNet on Kinetics-400: S3D-G, Table 3.

    python recipes/kinetics_s3dg.py --preset=smoke            # made-up data, a minute
    python recipes/convert_kinetics.py --data_dir=… --workdir=…     # videos to records
    python recipes/kinetics_s3dg.py --data_dir=… --strategy=tpu --workdir=…
    python recipes/kinetics_s3dg.py --data_dir=… --models=s3dg_2heads \
        --sweep=ensemble_weight=0,-0.5
    python recipes/kinetics_s3dg.py evaluate --data_dir=… --temporal_views=10 \
        --spatial_views=3               # also by averages over 30 clips; so predict
    python recipes/kinetics_s3dg.py --preset=gpus --data_dir=… --optimizer=lamb \
        --learning_rate=0.02
    python recipes/kinetics_s3dg.py report                    # table and plots again

64 frames of 224 x 224 pixels; momentum 0.9; the learning rate falls from 0.8 to 0 along
half a cosine, for batches of 2048 and 196 epochs; other batches take it in proportion.
Evaluates on the clip in the middle of each video. The rows of Table 3 by name: `s3dg`,
`s3dg_2heads` with `--ensemble_weight=0` or `-0.5`, or `--distillation_weight=2`. What
the paper leaves open is in docs/papers.md.

Paper (EnsembleNet, Table 3; 128 TPU v3 cores; top-1 / top-5 in %): S3D-G 74.6 / 91.4;
two heads with lambda = 0 75.7 / 92.2, -0.5 75.8 / 92.1, mu = 2 75.9 / 92.3.
Result: not measured.
"""

import csv
import dataclasses
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import zoo
from datasets import kinetics
from ensemble_heads.keras_api import keras
from recipes import data_errors, ensemble_weights, folders, long_runs
from recipes.classification import ScaledSettings, TopFiveExperiment
from recipes.common import setting
from recipes.ensemble_weights import EnsembleSettings

MODELS = ("s3dg", "s3dg_2heads", "s3dg_2heads_two_thirds")
_BATCH = 2048  # to which the learning rate belongs
_VIDEOS = 240_000  # for training, about, as the paper says


@dataclasses.dataclass(frozen=True)
class Config(EnsembleSettings, ScaledSettings):
    """Settings of a training run; each is a flag."""

    of_batch = _BATCH

    models: tuple[str, ...] = setting(
        ("s3dg", "s3dg_2heads"), f"Models, each a run per seed: {', '.join(MODELS)}."
    )
    distillation_weight: float | None = setting(
        2.0, "mu of the co-distillation loss; none for the ensembling loss."
    )
    data_dir: str = setting("", "Folder of records, or of tables or folders of videos.")
    train_annotations: str = setting(
        "", "CSV of the training videos, if not train.csv."
    )
    evaluation_annotations: str = setting("", "The same, to evaluate.")
    class_names: str = setting("", "File of the classes, one a line, in their order.")
    num_classes: int = setting(kinetics.CLASSES, "Classes, from 0.")
    synthetic: int = setting(0, "Make up so many training videos; 0: real ones.")
    frames: int = setting(64, "Frames of a clip.")
    stride: int = setting(1, "Moments from one frame to the next, 25 a second.")
    crop: int = setting(224, "Height and width of a clip in pixels.")
    short_sides: tuple[int, ...] = setting(
        (256, 320), "Short sides to which frames are resized, from and to."
    )
    temporal_views: int = setting(
        1, "Evaluate, predict: clips along the time of a video."
    )
    spatial_views: int = setting(
        1, "Evaluate, predict: clips along the long side, each time."
    )
    skip_bad_records: bool = setting(False, "Count and leave out what is damaged.")
    use_damaged: bool = setting(False, "Take what comes before the damage, and say so.")
    learning_rate: float = setting(
        0.8, f"At the start, for batches of {_BATCH}; others take it in proportion."
    )
    weight_decay: float = setting(
        1e-7, "c of the penalty c / 2 |w|^2, of weights and batch norms' gammas."
    )
    batch_norm_momentum: float = setting(
        0.999, "Share of the moving statistics that one step keeps."
    )
    batch_norm_synchronized: bool = setting(
        False, "Batch norms see the batch of all replicas."
    )
    dropout: float = setting(0.2, "Share dropped before the classifier.")
    width: float = setting(1.0, "What all widths are multiplied by, up to 1.")
    blocks: int = setting(0, "Blocks kept in each stage; 0: all.")

    def __post_init__(self):
        super().__post_init__()
        self.require_among(MODELS, "models")
        self.require_at_least(1, "num_classes", "frames", "stride", "crop")
        self.require_at_least(1, "temporal_views", "spatial_views")
        self.require_at_least(0, "synthetic", "weight_decay", "blocks")
        momentum = 0 <= self.batch_norm_momentum < 1
        self.require("batch_norm_momentum", momentum, "be in [0, 1)")
        sides = self.short_sides
        fits = len(sides) == 2 and self.crop <= sides[0] <= sides[1]
        self.require("short_sides", fits, f"be two, from crop={self.crop}, rising")
        self.require("dropout", 0 <= self.dropout < 1, "be in [0, 1)")
        self.require("width", 0 < self.width <= 1, "be in (0, 1]")


PAPER = Config(
    steps=196 * _VIDEOS // _BATCH,
    batch_size=_BATCH,
    evaluation_batch_size=256,
    log_every=100,
    evaluate_every=2000,
    checkpoint_every=500,
)
PRESETS = {
    "paper": PAPER,
    # Eight GPUs of one host, 8 clips each.
    "gpus": dataclasses.replace(
        PAPER,
        steps=196 * _VIDEOS // 64,
        batch_size=64,
        evaluation_batch_size=64,
        strategy="mirrored",
        precision="mixed_float16",
        evaluate_every=40_000,
        checkpoint_every=2000,
    ),
    "smoke": Config(
        num_classes=3,
        synthetic=60,
        frames=8,
        crop=32,
        short_sides=(32, 40),
        width=0.125,
        blocks=1,
        batch_norm_momentum=0.7,
        learning_rate=12.8,  # 0.05 for batches of 8
        steps=30,
        batch_size=8,
        evaluation_batch_size=8,
        log_every=10,
        evaluate_every=30,
        checkpoint_every=10,
    ),
}


class KineticsS3DG(TopFiveExperiment):
    """S3D-G, alone and with two heads at its size."""

    name = "kinetics_s3dg"
    title = "Kinetics"
    reads_shares = True
    scale_settings = (
        *TopFiveExperiment.scale_settings,
        *("temporal_views", "spatial_views", "evaluation_annotations"),
    )

    def __init__(self, path=None):
        super().__init__(path)
        self._bad_records = kinetics.BadRecords()

    def check_data(self, settings):
        rule = "name where the videos are; --preset=smoke makes some up"
        some = settings.data_dir or settings.train_annotations or settings.synthetic
        settings.require("data_dir", some, rule)

    def is_affected(self, model, name):
        return ensemble_weights.is_affected(model, name)

    def build(self, run):
        settings, spec = run.settings, zoo.SPECS[run.model]
        changes = {
            "classes": settings.num_classes,
            "input_shape": (settings.frames, settings.crop, settings.crop, 3),
            "weight_decay": settings.weight_decay,
            "dropout": settings.dropout,
            "batch_norm_momentum": settings.batch_norm_momentum,
            "batch_norm_synchronized": settings.batch_norm_synchronized,
            **getattr(spec, "base", spec).smaller(settings.width, settings.blocks),
        }
        if isinstance(spec, zoo.MultiHeadSpec):
            changes["seed"] = run.seed
        return spec.with_changes(**changes).build(run.model)

    def compile(self, model, run):
        settings = run.settings
        rate = keras.optimizers.schedules.CosineDecay(
            settings.scaled_rate, settings.steps
        )
        model.compile(
            settings.make_optimizer(rate),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=settings.jit_compile,
            **settings.compile_options(model),
        )

    def training_data(self, run, start_step):
        return self._load(
            run,
            "train",
            run.settings.batch_size // self.share[1],
            annotations=run.settings.train_annotations or None,
            drop_remainder=True,
            epochs=None,
            seed=run.seed,
            start_batch=start_step,
            shard=self.share,
        )

    def evaluation_data(self, run):
        return self._evaluated(run, run.settings.evaluation_batch_size)

    def views(self, run):
        return run.settings.temporal_views * run.settings.spatial_views

    def view_data(self, run, batch_size):
        views = self.views(run)
        data = self._evaluated(run, batch_size * views, **_views(run.settings))
        return data.map(
            lambda clips, labels: (
                tf.reshape(clips, [-1, views, *clips.shape[1:]]),
                labels[::views],
            )
        )

    def predict(self, model, run, path):
        """Writes a row per video: the mean over its views."""
        settings = run.settings
        data = self._evaluated(
            run,
            settings.evaluation_batch_size,
            numbered=True,
            with_ids=True,
            **_views(settings),
        )
        videos = {}
        for inputs, labels, names in data:
            said = model.predict_on_batch(inputs["clips"])
            numbers = inputs["number"].numpy()
            for number, label, name, row in zip(
                numbers, labels.numpy(), names.numpy(), said, strict=True
            ):
                seen = videos.setdefault(number, (name.decode(), label, []))
                seen[-1].append(row)
        return _write(path, videos)

    def clear_errors(self):
        return data_errors.told_plainly(self._bad_records)

    def _evaluated(self, run, size, **options):
        annotations = run.settings.evaluation_annotations or None
        return self._load(run, "validate", size, annotations=annotations, **options)

    def _load(self, run, split, batch_size, **options):
        settings = run.settings
        try:
            return kinetics.load(
                split,
                settings.data_dir or None,
                batch_size,
                class_names=settings.class_names or None,
                num_classes=settings.num_classes,
                frames=settings.frames,
                stride=settings.stride,
                crop=settings.crop,
                short_sides=settings.short_sides,
                skip_bad_records=settings.skip_bad_records,
                use_damaged=settings.use_damaged,
                bad_records=self._bad_records,
                synthetic=settings.synthetic,
                **options,
            )
        except ValueError as error:  # of what flags ask for
            sys.exit(str(error))


def _views(settings):
    """As `kinetics.load` takes them."""
    names = ("temporal_views", "spatial_views")
    return {name: getattr(settings, name) for name in names}


def _write(path, videos):
    with folders.new_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(["video", "label", "views", "predicted", "probability"])
        for name, label, rows in videos.values():
            mean = np.mean(rows, axis=0)
            best = int(mean.argmax())
            writer.writerow([name, label, len(rows), best, f"{mean[best]:.6f}"])
    return len(videos)


if __name__ == "__main__":
    long_runs.run(KineticsS3DG, PRESETS)
