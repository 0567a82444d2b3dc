"""Baselines on mean features: logistic regressions and mixtures of experts.

YouTube-8M's video-level files hold the mean features of each video; the frame-level
ones give the same through an average over the frames, so each classifier comes in two
rows. The data set's own code scales every feature vector, of a video or of a frame, to
unit length, uses two experts, and an L2 penalty of 1e-8.
"""

from dataclasses import dataclass, replace

from ensemble_heads.keras_api import keras
from zoo import classifiers
from zoo.batch_norm import BatchNormalization
from zoo.frame_inputs import frame_inputs, pool_frames
from zoo.frame_layers import POOLINGS
from zoo.precision import unit_length
from zoo.specs import ModelSpec

layers = keras.layers

_NORMALIZATIONS = ("unit_length", "batch", "none")


@dataclass(frozen=True)
class VideoLevelSpec(ModelSpec):
    """A classifier on one feature vector per video.

    The model takes {"features": float `[batch, feature_size]`}, or with a `pooling`
    {"frames": float `[batch, frames, feature_size]`, "num_frames": int `[batch]`},
    and gives probabilities `[batch, classes]`. Its layers in order: `normalization`,
    `pooling` where there is one, then `classifier`, or `moe` and `probabilities`.
    Nothing is between input and classifier that could become narrower: heads forked
    at `normalization`, `pooling` or `features` are as large as the model itself.

    Attributes:
        classifier: "logistic" or "moe".
        num_experts: logistic experts of a class, K, without the dummy.
        pooling: None where the features are those of whole videos, or how frames are
            pooled: "average", "swap", "max" or "attention".
        normalization: of each feature vector: "unit_length" (divided by its L2 norm),
            "batch" (a batch norm), or "none".
        feature_size: features of one vector; YouTube-8M has 1024 of images and 128 of
            sound.
        classes: number of classes.
        frames: number of frames that videos are padded to; None where it varies.
        l2: c adds c / 2 * sum(w^2) over the kernels to the loss.

    Raises:
        ValueError: a value that its field does not allow.
    """

    classifier: str
    num_experts: int = 2
    pooling: str | None = None
    normalization: str = "unit_length"
    feature_size: int = 1152
    classes: int = 3862
    frames: int | None = None
    l2: float = 1e-8

    def __post_init__(self):
        self.check_choice("classifier", classifiers.CLASSIFIERS)
        self.check_choice("pooling", (None, *POOLINGS))
        self.check_choice("normalization", _NORMALIZATIONS)
        self.check_sizes("num_experts", "feature_size", "classes")
        self.check_sizes("frames", optional=True)
        if self.l2 < 0:
            self.refuse("l2", "not be negative")

    def build(self, name):
        if self.pooling is None:
            x = keras.Input((self.feature_size,), name="features")
            inputs = {"features": x}
            x = self._normalize(x)
        else:
            inputs, x, mask = frame_inputs(self.feature_size, self.frames)
            x = pool_frames(self._normalize(x, mask), mask, self.pooling)
        outputs = classifiers.outputs(
            self.classifier, x, self.classes, self.num_experts, self.l2
        )
        return keras.Model(inputs, outputs, name=name)

    def _normalize(self, x, mask=None):
        if self.normalization == "unit_length":
            return unit_length(x, "normalization")
        if self.normalization == "batch":
            return BatchNormalization(name="normalization")(x, mask=mask)
        return x


SPECS = {
    "youtube8m_logistic": VideoLevelSpec("logistic"),
    "youtube8m_moe": VideoLevelSpec("moe"),
}
SPECS |= {
    f"{name}_frames": replace(spec, pooling="average") for name, spec in SPECS.items()
}
