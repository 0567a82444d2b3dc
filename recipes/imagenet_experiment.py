"""What experiments on ImageNet share: data, metrics and where a run goes on.

A recipe subclasses `ImageNetExperiment` and `ImageNetSettings` with its models and
losses.
"""

import dataclasses
import sys

from datasets import (
    drawn_frames,
    imagenet,
    imagenet_records,
    shard_files,
    synthetic_imagenet,
)
from recipes import data_errors, folders
from recipes.classification import MomentumSettings, TopFiveExperiment
from recipes.common import setting

SYNTHETIC = "synthetic"  # the folder of made-up shards in the workdir
IMAGES = 1_281_167  # of ILSVRC 2012, for training
_SHARDS = 4  # of made-up training images
# Classes that a few steps tell apart in windows of a tenth of an image, recoloured.
_EASY = {"blocks": (3, 4), "contrast": 60.0, "noise": 8.0}
_HELD_OUT = 4  # as many made-up training images come to one to evaluate


@dataclasses.dataclass(frozen=True)
class ImageNetSettings(MomentumSettings):
    """Settings of a training run on ImageNet; a recipe adds its own."""

    data_dir: str = setting(
        "", "Folder or URL of shards, or a folder of train/ and val/ with images."
    )
    source: str = setting(
        "", f"{', '.join(imagenet.SOURCES)}. Default: which of the first two there is."
    )
    num_classes: int = setting(imagenet.CLASSES, "Classes, from 0.")
    image_size: int = setting(224, "Height and width of an image in pixels.")
    synthetic: int = setting(0, "Make up so many training images; 0: real ones.")
    shuffle_buffer: int = setting(2048, "Records that training is shuffled in.")
    skip_bad_records: bool = setting(False, "Count and leave out what is damaged.")

    def __post_init__(self):
        super().__post_init__()
        self.require_at_least(1, "num_classes", "image_size")
        self.require_at_least(0, "synthetic", "shuffle_buffer")
        self.require_among(("", *imagenet.SOURCES), "source")


class ImageNetExperiment(TopFiveExperiment):
    """Classification of photographs, by top-1 and top-5 accuracy."""

    title = "ImageNet"
    reads_shares = True

    def __init__(self, path=None):
        super().__init__(path)
        self._bad_records = imagenet.BadRecords()

    def load_options(self, run, split):
        """{argument: value} of `imagenet.load` for one split."""
        return {}

    def needs_numbers(self, run):
        """Whether a run must know an image again in another epoch, cut otherwise."""
        return False

    def check_data(self, settings):
        rule = "name where the images are; --preset=smoke makes some up"
        some = settings.data_dir or settings.source == "tfds" or settings.synthetic
        settings.require("data_dir", some, rule)

    def prepare_data(self, run):
        if run.settings.synthetic:
            self._folder(run.settings)

    def training_data(self, run, start_step):
        settings = run.settings
        own = settings.batch_size // self.share[1]
        epoch, batch = self._place(run, start_step, own)
        return self._load(
            run,
            "train",
            own,
            drop_remainder=True,
            epochs=None,
            seed=run.seed,
            shuffle_buffer=settings.shuffle_buffer,
            start_epoch=epoch,
            start_batch=batch,
            shard=self.share,
            numbered=self.needs_numbers(run),
        )

    def evaluation_data(self, run):
        size = run.settings.evaluation_batch_size
        return self._load(run, "validation", size)

    def evaluation_examples(self, run):
        return run.settings.synthetic // _HELD_OUT or None

    def clear_errors(self):
        return data_errors.told_plainly(self._bad_records)

    def _load(self, run, split, batch_size, **options):
        settings = run.settings
        try:
            return imagenet.load(
                split,
                self._folder(settings),
                batch_size,
                source=settings.source or None,
                num_classes=settings.num_classes,
                image_size=settings.image_size,
                skip_bad_records=settings.skip_bad_records,
                bad_records=self._bad_records if settings.skip_bad_records else None,
                **self.load_options(run, split),
                **options,
            )
        except ValueError as error:  # of what flags ask for
            sys.exit(str(error))

    def _place(self, run, step, batch_size):
        """(epoch, batch in it) of a training step.

        Whole epochs are passed over where it can be counted how long they are: on this
        machine's disk. Elsewhere the batches before are read anew.
        """
        settings = run.settings
        folder = self._folder(settings)
        if not step or settings.skip_bad_records or self.share[1] > 1 or not folder:
            return 0, step
        if settings.source not in ("", "records"):
            return 0, step
        paths = imagenet_records.find_shards("train", str(folder))
        if not paths or not all(map(shard_files.is_local, paths)):
            return 0, step
        images = sum(len(drawn_frames.places(path)) for path in paths)
        return divmod(step, images // batch_size)

    def _folder(self, settings):
        if not settings.synthetic:
            return settings.data_dir or None
        name = f"{settings.synthetic}_{settings.num_classes}"
        folder = self.path / SYNTHETIC / name
        if not folder.exists():
            _make_up(folder, settings)
        return folder


def _make_up(folder, settings):
    """Writes synthetic shards to train on, and a quarter as many to evaluate."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    folders.remove(unfinished)
    for split, shards, images in (
        ("train", _SHARDS, settings.synthetic),
        ("validation", 1, settings.synthetic // _HELD_OUT),
    ):
        synthetic_imagenet.write_imagenet(
            unfinished,
            split,
            shards,
            images // shards,
            num_classes=settings.num_classes,
            **_EASY,
        )
    unfinished.rename(folder)
