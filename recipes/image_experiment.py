"""What experiments on data sets of small images share.

A recipe subclasses `ImageExperiment` and `ImageSettings` with its models and losses.
"""

import contextlib
import dataclasses
import sys

from datasets import image_sets
from recipes.classification import ClassificationExperiment, MomentumSettings
from recipes.common import setting


@dataclasses.dataclass(frozen=True)
class ImageSettings(MomentumSettings):
    """Settings of a training run on small images; a recipe adds its own."""

    data_dir: str = setting("", "Folder of the published files. Default: downloads.")
    synthetic: int = setting(0, "Make up so many training images; 0: real ones.")
    validation_examples: int = setting(
        0, "Training images held out, to choose the step that is reported."
    )

    def __post_init__(self):
        super().__post_init__()
        self.require_at_least(0, "synthetic", "validation_examples")


class ImageExperiment(ClassificationExperiment):
    """Classification of small images.

    Attributes:
        image_set: `image_sets.ImageSet`, where all runs have one.
        pixels: str, as for `image_sets.load`.
        augment: bool.
    """

    analyses = True
    image_set = None
    pixels = "standardised"
    augment = False
    reads_shares = True

    def images(self, settings):
        """(image_set, pixels, augment) of a run with these settings."""
        return self.image_set, self.pixels, self.augment

    def prepare_data(self, run):
        self.evaluation_examples(run)  # which may download

    def training_data(self, run, start_step):
        size = run.settings.batch_size
        examples = self._count(run, "train") - run.settings.validation_examples
        return self._load(
            run,
            "train",
            size,
            augment=self.images(run.settings)[-1],
            epochs=None,
            start_batch=start_step,
            # Nothing is dropped, but sizes are known, as several replicas need.
            drop_remainder=examples >= size and examples % size == 0,
            share=self.share,
        )

    def evaluation_data(self, run):
        return self._load(run, "test", run.settings.evaluation_batch_size)

    def evaluation_examples(self, run):
        return self._count(run, "test")

    def validation_data(self, run):
        if not run.settings.validation_examples:
            return None
        return self._load(run, "validation", run.settings.evaluation_batch_size)

    def _count(self, run, split):
        image_set, *_ = self.images(run.settings)
        with _readable_errors():
            _, labels = image_sets.arrays(image_set, split, *_source(run))
        return len(labels)

    def _load(self, run, split, batch_size, **options):
        folder, synthetic = _source(run)
        image_set, pixels, _ = self.images(run.settings)
        with _readable_errors():
            return image_sets.load(
                image_set,
                split,
                folder,
                batch_size,
                seed=run.seed,
                validation_examples=run.settings.validation_examples,
                pixels=pixels,
                synthetic=synthetic,
                **options,
            )


def _source(run):
    return run.settings.data_dir or None, run.settings.synthetic


@contextlib.contextmanager
def _readable_errors():
    """Context in which bad data end the program with a paragraph, not a trace."""
    try:
        yield
    except (ValueError, FileNotFoundError, ImportError) as error:
        sys.exit(str(error))
