r"""EnsembleNet on YouTube-8M: deep bags of frames, single and multi-headed, Table 2.

    python recipes/youtube8m_dbof.py --preset=smoke           # synthetic, a minute
    python recipes/youtube8m_dbof.py --data_dir=gs://… --strategy=tpu --workdir=…
    python recipes/youtube8m_dbof.py --data_dir=… --sweep=distillation_weight=0,1,2,3 \
        --seeds=3                                             # Figure 2, for YouTube-8M
    python recipes/youtube8m_dbof.py evaluate --data_dir=…    # the newest checkpoints
    python recipes/youtube8m_dbof.py predict --data_dir=… --output=submission.csv.gz
    python recipes/youtube8m_dbof.py export --data_dir=…      # SavedModels
    python recipes/youtube8m_dbof.py report                   # table and plots again

Trains on 25 random frames of a video and evaluates on all of them, by GAP, mAP, Hit@1
and PERR. The same command goes on where it was stopped, by whatever, and ends with the
weights of a run that never was. `docs/youtube8m.md` walks through the real data set.

Paper (EnsembleNet, Table 2; 32 TPU v3 cores): GAP 87.93 % single, 88.30 % with
lambda = 0, 88.35 % with lambda = -0.5, 88.36 % with mu = 2; mAP 59.65, 60.06, 60.06,
60.07 %.
Result: on the real data set not measured; preset smoke in docs/youtube8m.md.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import ensemble_heads as eh
import zoo
from datasets import drawn_frames, shard_files, synthetic, youtube8m
from ensemble_heads.keras_api import keras
from recipes import data_errors, ensemble_weights, folders, long_runs, youtube8m_output
from recipes.experiment import Examples, Experiment, Measure
from recipes.youtube8m_settings import PRESETS
from zoo import frame_inputs

SYNTHETIC = "synthetic"  # the folder of made-up shards in the workdir


class YouTube8M(Experiment):
    """Video classification on YouTube-8M or shards of its format."""

    name = "youtube8m_dbof"
    title = "YouTube-8M"
    measures = (
        Measure("gap", "GAP"),
        Measure("map", "mAP"),
        Measure("hit_at_1", "Hit@1"),
        Measure("perr", "PERR"),
    )
    predictions = "predictions.csv.gz"
    notes = (
        "; flops: for one video, batch norm folded, from the pooling on (as in Table 2 "
        "of the paper), and of the whole model for 25 and 300 frames."
    )
    scale_settings = (
        *Experiment.scale_settings,
        *("predict_files", "predict_split", "data_dir", "pad_frames", "steps"),
        "max_evaluation_videos",
    )

    def __init__(self, path=None):
        super().__init__(path)
        self._bad_records = youtube8m.BadRecords()

    def check_data(self, settings):
        rule = "name the folder of the shards; --preset=smoke makes some up"
        some = settings.data_dir or settings.train_files or settings.synthetic_videos
        settings.require("data_dir", some, rule)

    def prepare_data(self, run):
        self._folder(run.settings, self._level(run))  # which may make them up

    def is_affected(self, model, name):
        of_heads = (*ensemble_weights.NAMES, "num_heads")
        if name in of_heads or name.startswith("head_"):
            return isinstance(zoo.SPECS[model], zoo.MultiHeadSpec)
        return True

    def build(self, run):
        try:
            return self._spec(run).build(run.model)
        except ValueError as error:  # a size that the model does not allow
            sys.exit(str(error))

    def compile(self, model, run):
        settings = run.settings
        rate = keras.optimizers.schedules.ExponentialDecay(
            settings.learning_rate,
            max(1, settings.decay_examples // settings.batch_size),
            settings.decay_rate,
            staircase=True,
        )
        # The loss of a video is the sum over its classes, as in the starter code.
        model.compile(
            keras.optimizers.Adam(rate, global_clipnorm=settings.clip_norm),
            "binary_crossentropy",
            loss_weights=[float(settings.num_classes)],
            metrics=[eh.metrics.HitAtOne(name="hit_at_1")],
            jit_compile=settings.jit_compile,
            **settings.compile_options(model),
        )

    def compile_evaluation(self, model, run):
        settings = run.settings
        heads = {}
        if isinstance(model, eh.MultiHeadModel):
            heads["head_metrics"] = [_gap(settings)]
        model.compile(
            loss="binary_crossentropy",
            metrics=[
                _gap(settings),
                eh.metrics.MeanAveragePrecision(
                    settings.num_classes, name="map", **_exact(settings)
                ),
                eh.metrics.HitAtOne(name="hit_at_1"),
                eh.metrics.PrecisionAtEqualRecall(name="perr"),
                Examples(),
            ],
            jit_compile=False,  # the state of the exact metrics grows
            **heads,
        )

    def training_data(self, run, start_step):
        settings = run.settings
        epoch, batch = self._place(run, start_step)
        return self._load(
            run,
            settings.train_split,
            settings.train_files,
            settings.batch_size,
            random_frames=settings.random_frames if self._takes_frames(run) else None,
            shuffle=True,
            shuffle_buffer=settings.shuffle_buffer,
            epochs=None,
            seed=run.seed,
            start_epoch=epoch,
            start_batch=batch,
            drop_remainder=True,
        )

    def evaluation_data(self, run):
        settings = run.settings
        split, files = settings.evaluation_split, settings.evaluation_files
        size = settings.evaluation_batch_size
        return self._load(run, split, files, size, **self._all_frames(run))

    def evaluation_examples(self, run):
        return run.settings.synthetic_videos // 8 or None

    def sizes(self, model):
        profile = eh.profile(model)
        sizes = {"parameters": profile.parameters, "flops": profile.flops}
        part = getattr(model, "trunk", model)
        if "frames" in part.input and part.input["frames"].shape[1] is None:
            # Only what comes after the pooling, as in the paper's table.
            for frames in (25, 300):
                shape = frame_inputs.input_shape(model, frames)
                sizes[f"flops_{frames}"] = eh.profile(model, input_shape=shape).flops
        return sizes

    def predict(self, model, run, path):
        settings = run.settings
        data = self._load(
            run,
            settings.predict_split,
            settings.predict_files,
            settings.evaluation_batch_size,
            with_ids=True,
            **self._all_frames(run),
        )
        return youtube8m_output.write_predictions(model, data, path, settings.top_k)

    def export(self, model, run, path):
        features = run.settings.features if self._takes_frames(run) else None
        return youtube8m_output.export(model, path, features, run.settings.max_frames)

    def clear_errors(self):
        return data_errors.told_plainly(self._bad_records)

    def _spec(self, run):
        """The model's row of the zoo with the settings' sizes."""
        settings, spec = run.settings, zoo.SPECS[run.model]
        changes = {"classes": settings.num_classes}
        if "feature_sizes" in spec.changeable_fields():
            changes["feature_sizes"] = settings.feature_sizes
        else:
            changes["feature_size"] = sum(settings.feature_sizes)
        if run.model.startswith("dbof"):
            for name in ("cluster", "hidden", "num_experts", "pooling", "second_gate"):
                changes[name] = getattr(settings, name)
        if isinstance(spec, zoo.MultiHeadSpec):
            changes |= {
                "seed": run.seed,
                "num_heads": settings.num_heads,
                "width_multiplier": settings.head_hidden / settings.hidden,
                "overrides": {"moe": {"num_experts": settings.head_experts}},
            }
        return spec.with_changes(**changes)

    def _takes_frames(self, run):
        return getattr(zoo.SPECS[run.model], "pooling", "frames") is not None

    def _all_frames(self, run):
        if not self._takes_frames(run):
            return {}
        frames = run.settings.max_frames
        return {
            "max_frames": frames,
            "pad_to": frames if run.settings.pad_frames else None,
        }

    def _load(self, run, split, files, batch_size, **options):
        settings = run.settings
        level = self._level(run)
        try:
            return youtube8m.load(
                split,
                self._folder(settings, level),
                batch_size,
                level=level,
                files=list(files) or None,
                features=settings.features,
                num_classes=settings.num_classes,
                skip_bad_records=settings.skip_bad_records,
                bad_records=self._bad_records,
                **options,
            )
        except ValueError as error:  # of what flags ask for
            sys.exit(str(error))

    def _place(self, run, step):
        """(epoch, batch in it) of a training step.

        Whole epochs are passed over where it can be counted how long they are. Where
        that would take as long as reading them, the batches before are read anew.
        """
        settings = run.settings
        if not step or settings.skip_bad_records:
            return 0, step
        level = self._level(run)
        paths = youtube8m.list_files(
            settings.train_split,
            self._folder(settings, level),
            files=list(settings.train_files) or None,
            level=level,
        )
        if not all(map(shard_files.is_local, paths)):
            return 0, step
        records = sum(len(drawn_frames.places(path)) for path in paths)
        return divmod(step, records // settings.batch_size)

    def _level(self, run):
        return "frame" if self._takes_frames(run) else "video"

    def _folder(self, settings, level):
        if not settings.synthetic_videos:
            return settings.data_dir or None
        sizes = (settings.synthetic_videos, *settings.feature_sizes)
        sizes += (settings.num_classes, settings.max_frames)
        folder = self.path / SYNTHETIC / "_".join([level, *map(str, sizes)])
        if not folder.exists():
            _make_up(folder, level, settings)
        return folder


def _gap(settings):
    return eh.metrics.GlobalAveragePrecision(name="gap", **_exact(settings))


def _exact(settings):
    return {"top_k": settings.top_k, "max_examples": settings.max_evaluation_videos}


def _make_up(folder, level, settings):
    """Writes synthetic shards: train, and an eighth as many to evaluate and predict."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    folders.remove(unfinished)
    videos = settings.synthetic_videos
    # Of the validation shards, the paper's split evaluates on every tenth.
    for split, shards, each in (
        ("train", 4, videos // 4),
        ("validate", 1, videos // 8),
        ("test", 1, videos // 8),
    ):
        synthetic.write_youtube8m(
            unfinished,
            split,
            shards,
            each,
            level=level,
            features=settings.features,
            num_classes=settings.num_classes,
            max_frames=settings.max_frames,
        )
    unfinished.rename(folder)


if __name__ == "__main__":
    long_runs.run(YouTube8M, PRESETS)
