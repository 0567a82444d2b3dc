"""S3D-G: EnsembleNet section 4.3, Kinetics, and the image model it is inflated from.

Inception-v1 with a time axis (Xie et al. 2018, arXiv:1712.04851). The first convolution
sees 3 frames, every 3x3 convolution after it is one of 1x3x3 and one of 3x1x1, and
features are gated by `zoo.gating.feature_gate`. Time is halved by the first
convolution and the last two of the four poolings between stages.

What the paper leaves open, and what its printed sizes say about it:
* a gate follows EVERY convolution unit from `conv_2c` on, the 1x1 reductions included:
  9.70 M parameters. With gates on the four outputs of a block alone, as the released
  code of S3D-G has them (`gates="outputs"`), it would be 9.52 M, which is not printed;
* the first convolution sees 3 frames at once: with 7, or in two halves, it would be
  159 B or 131 B FLOPs in place of the printed 129 B;
* the branches fork after `pool_4a`, and their 554 channels are 171 + 213 + 85 + 85, so
  the outputs of a block are 2/3 as wide. The widths of the reductions are not printed:
  0.8 of the original ones gives 9.71 M parameters and 128.7 B FLOPs, the printed
  sizes, and so is `s3dg_2heads`; 2/3 of them gives 9.01 M and 126.2 B, which is
  `s3dg_2heads_two_thirds`.
Both, where gates are and how wide reductions are, are therefore inferred from sizes.
Inferred without evidence in the sizes, as in the released code: gates have no bias; the
3x1x1 half of a separable convolution starts as the identity, and has a bias and no
batch norm; all other kernels start from a truncated N(0, 0.01), the classifier from
Glorot's uniform distribution; batch-norm momentum 0.999 and epsilon 1e-3; a dropout of
0.2 and no weight decay (1e-7 there).

Layers are named by place: `conv_1a`, `conv_2b`, `conv_2c`, then of block 3b
`mixed_3b_0`, `mixed_3b_1_reduce`, `mixed_3b_1`, `mixed_3b_2_reduce`, `mixed_3b_2`,
`mixed_3b_3`, and `mixed_3b` for the layer that ends it; a pooling between stages is
`pool_4a`. What belongs to a convolution begins with its name: `conv_2c_bn`,
`conv_2c_relu`, `conv_2c_temporal`, `conv_2c_gate`.
"""

import dataclasses
import itertools
import math
from dataclasses import dataclass, replace

from ensemble_heads.keras_api import keras
from zoo.batch_norm import BatchNormalization
from zoo.gating import feature_gate
from zoo.images import ImageSpec
from zoo.inflation import TemporalIdentity
from zoo.precision import output_dtype, pooling_3d_dtype
from zoo.specs import MultiHeadSpec

layers = keras.layers

STAGES = (3, 4, 5)
_LETTERS = "bcdefghijklmnopqrstuvwxyz"
_GATES = ("all", "outputs", "none")

# Windows and strides of the poolings before the stages: time, height, width.
_POOLS = {
    2: ((1, 3, 3), (1, 2, 2)),
    3: ((1, 3, 3), (1, 2, 2)),
    4: ((3, 3, 3), (2, 2, 2)),
    5: ((2, 2, 2), (2, 2, 2)),
}


@dataclass(frozen=True)
class Mixed:
    """Channels of one Inception block, in the order in which its layers are built.

    Attributes:
        pointwise: of the 1x1 convolution, the first of four outputs.
        reduce_1, output_1: of the 1x1 before the first 3x3 convolution, and of that.
        reduce_2, output_2: the same for the second 3x3 convolution.
        pooled: of the 1x1 convolution after the max pooling, the last output.
    """

    pointwise: int
    reduce_1: int
    output_1: int
    reduce_2: int
    output_2: int
    pooled: int


@dataclass(frozen=True)
class S3DGSpec(ImageSpec):
    """Shape of one S3D-G, or of the image model; fields of `ImageSpec`, and these.

    Attributes:
        input_shape: `(frames, height, width, channels)` of one video; or `(height,
            width, channels)` of one image, for which the network is built without its
            time axis, and `first_kernel` and `separable` mean nothing.
        stem: channels of `conv_1a`, `conv_2b` and `conv_2c`.
        blocks: tuples of `Mixed`, the blocks of the stages 3, 4 and 5.
        first_kernel: frames that the kernel of `conv_1a` sees.
        separable: whether 3x3x3 convolutions are 1x3x3 and then 3x1x1 ones.
        gates: what is gated from `conv_2c` on: "all" convolution units, "outputs" (all
            but the 1x1 reductions of blocks), or "none".
        dropout: share dropped before the classifier.
        weight_decay: see `ImageSpec`; the gammas of the batch norms decay as well.
        batch_norm_momentum: share of the moving statistics that one step keeps.
        batch_norm_epsilon: added to the variance.
        batch_norm_synchronized: whether statistics are those of all replicas together.
    """

    input_shape: tuple[int, ...] = (64, 224, 224, 3)
    classes: int = 400
    stem: tuple[int, ...] = (64, 64, 192)
    blocks: tuple[tuple[Mixed, ...], ...] = (
        (
            Mixed(64, 96, 128, 16, 32, 32),
            Mixed(128, 128, 192, 32, 96, 64),
        ),
        (
            Mixed(192, 96, 208, 16, 48, 64),
            Mixed(160, 112, 224, 24, 64, 64),
            Mixed(128, 128, 256, 24, 64, 64),
            Mixed(112, 144, 288, 32, 64, 64),
            Mixed(256, 160, 320, 32, 128, 128),
        ),
        (
            Mixed(256, 160, 320, 32, 128, 128),
            Mixed(384, 192, 384, 48, 128, 128),
        ),
    )
    first_kernel: int = 3
    separable: bool = True
    gates: str = "all"
    dropout: float = 0.2
    batch_norm_momentum: float = 0.999
    batch_norm_epsilon: float = 1e-3
    batch_norm_synchronized: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.check_tuples_of_sizes("stem")
        if len(self.stem) != 3:
            self.refuse("stem", "have three entries")
        self._check_blocks()
        self.check_sizes("first_kernel")
        self.check_choice("separable", (True, False))
        self.check_choice("gates", _GATES)
        self.check_shares("dropout")

    def _check_blocks(self):
        self.normalise_tuples("blocks")
        stages = [stage for stage in self.blocks if isinstance(stage, tuple | list)]
        stages = tuple(tuple(stage) for stage in stages)
        if len(stages) != len(STAGES) or len(self.blocks) != len(STAGES):
            self.refuse("blocks", f"be {len(STAGES)} tuples of Mixed, one per stage")
        object.__setattr__(self, "blocks", stages)
        if not all(1 <= len(stage) <= len(_LETTERS) for stage in stages):
            self.refuse("blocks", f"have 1 to {len(_LETTERS)} blocks in a stage")
        for block in itertools.chain(*stages):
            sizes = dataclasses.astuple(block) if isinstance(block, Mixed) else (0,)
            if not all(isinstance(size, int) and size > 0 for size in sizes):
                self.refuse("blocks", "be Mixed, of positive integers")

    def check_input_shape(self, ranks, rule):
        rule = "be (frames, height, width, channels), or the last three for images"
        super().check_input_shape((3, 4), rule)

    def smaller(self, width, blocks=0):
        """{field: value} of a network of the same form.

        Args:
            width: float, what all widths are multiplied by, rounded up.
            blocks: int, how many blocks of each stage to keep, the first ones; 0: all.
        """

        def narrow(sizes):
            return tuple(math.ceil(width * size) for size in sizes)

        stages = [stage[: blocks or None] for stage in self.blocks]
        return {
            "stem": narrow(self.stem),
            "blocks": tuple(
                tuple(Mixed(*narrow(dataclasses.astuple(block))) for block in stage)
                for stage in stages
            ),
        }

    def build(self, name):
        kind = "videos" if self.of_videos else "images"
        x = inputs = keras.Input(self.input_shape, name=kind)
        x = self._unit(x, "conv_1a", self.stem[0], (self.first_kernel, 7, 7), 2)
        x = self._pool(x, "pool_2a", *_POOLS[2])
        x = self._unit(x, "conv_2b", self.stem[1])
        x = self._spatiotemporal(x, "conv_2c", self.stem[2])
        for stage, blocks in zip(STAGES, self.blocks, strict=True):
            x = self._pool(x, f"pool_{stage}a", *_POOLS[stage])
            for letter, widths in zip(_LETTERS, blocks):
                x = self._mixed(x, f"mixed_{stage}{letter}", widths)
        return keras.Model(inputs, self._classified(x), name=name)

    @property
    def of_videos(self):
        """Whether the model takes videos."""
        return len(self.input_shape) == 4

    def _mixed(self, x, name, widths):
        gated = self.gates == "all"
        first = self._output(x, f"{name}_0", widths.pointwise)
        second = self._unit(x, f"{name}_1_reduce", widths.reduce_1, gated=gated)
        second = self._spatiotemporal(second, f"{name}_1", widths.output_1)
        third = self._unit(x, f"{name}_2_reduce", widths.reduce_2, gated=gated)
        third = self._spatiotemporal(third, f"{name}_2", widths.output_2)
        last = self._pool(x, f"{name}_3_pool", (3, 3, 3), (1, 1, 1))
        last = self._output(last, f"{name}_3", widths.pooled)
        return layers.Concatenate(name=name)([first, second, third, last])

    def _output(self, x, name, filters):
        return self._unit(x, name, filters, gated=self.gates != "none")

    def _spatiotemporal(self, x, name, filters):
        """A unit of 3x3x3, in two halves if it is separable."""
        gated = self.gates != "none"
        if not (self.separable and self.of_videos):
            return self._unit(x, name, filters, (3, 3, 3), gated=gated)
        x = self._unit(x, name, filters, (1, 3, 3))
        x = layers.Conv3D(
            filters,
            (3, 1, 1),
            padding="same",
            activation="relu",
            kernel_initializer=TemporalIdentity(),
            kernel_regularizer=self.decay(),
            name=f"{name}_temporal",
        )(x)
        return self._gate(x, name) if gated else x

    def _unit(self, x, name, filters, kernel=(1, 1, 1), strides=1, gated=False):
        """Convolution, batch norm and ReLU, and a gate if asked for."""
        convolution = layers.Conv3D if self.of_videos else layers.Conv2D
        x = convolution(
            filters,
            self._spatial(kernel),
            strides=strides,
            padding="same",
            use_bias=False,
            name=name,
            **self._kernel_options(),
        )(x)
        x = BatchNormalization(
            momentum=self.batch_norm_momentum,
            epsilon=self.batch_norm_epsilon,
            gamma_regularizer=self.decay(),
            synchronized=self.batch_norm_synchronized,
            name=f"{name}_bn",
        )(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
        return self._gate(x, name) if gated else x

    def _gate(self, x, name):
        return feature_gate(x, f"{name}_gate", **self._kernel_options())

    def _pool(self, x, name, window, strides):
        pool = layers.MaxPooling3D if self.of_videos else layers.MaxPooling2D
        return pool(
            self._spatial(window),
            strides=self._spatial(strides),
            padding="same",
            dtype=pooling_3d_dtype() if self.of_videos else None,
            name=name,
        )(x)

    def _classified(self, x):
        """Averages of all places and two frames, classified, and their mean."""
        average, convolution = layers.AveragePooling2D, layers.Conv2D
        mean, window = layers.GlobalAveragePooling2D, tuple(x.shape[1:-1])
        if self.of_videos:
            average, convolution = layers.AveragePooling3D, layers.Conv3D
            mean = layers.GlobalAveragePooling3D
            window = (min(2, window[0]), *window[1:])
        exact = {"dtype": output_dtype()}
        x = average(window, strides=1, name="pool", **exact)(x)
        x = layers.Dropout(self.dropout, name="dropout", **exact)(x)
        options = {"kernel_regularizer": self.decay(), "name": "classifier", **exact}
        x = convolution(self.classes, 1, **options)(x)
        x = mean(name="logits", **exact)(x)
        activation = self.classifier_activation
        return layers.Activation(activation, name="predictions", **exact)(x)

    def _spatial(self, sizes):
        """Sizes along time, height and width; for images the last two."""
        return sizes if self.of_videos else sizes[1:]

    def _kernel_options(self):
        return {
            "kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.01),
            "kernel_regularizer": self.decay(),
        }


# Names of all reductions that there can be, and of the gates that have their widths.
_REDUCTIONS = frozenset(
    f"mixed_{stage}{letter}_{output}_reduce{suffix}"
    for stage in STAGES
    for letter in _LETTERS
    for output in (1, 2)
    for suffix in ("", "_gate_conv")
)


def branch_widths(layer):
    """Width of a branch of `s3dg_2heads` relative to S3D-G: 0.8 for the reductions.

    >>> [branch_widths(keras.layers.Conv3D(8, 1, name=f"mixed_4b_{i}"))
    ...  for i in ("1_reduce", "1")]
    [0.8, 0.6666666666666666]
    """
    return 0.8 if layer.name in _REDUCTIONS else 2 / 3


SPECS = {"s3dg": S3DGSpec()}

# The image model that S3D-G is inflated from, by `zoo.inflate`.
SPECS["inception_v1"] = replace(
    SPECS["s3dg"], input_shape=(224, 224, 3), classes=1000, gates="none"
)

# EnsembleNet Table 3; the second one is not what is printed, see above.
SPECS |= {
    "s3dg_2heads": MultiHeadSpec(
        SPECS["s3dg"], "pool_4a", 2, width_multiplier=branch_widths
    ),
    "s3dg_2heads_two_thirds": MultiHeadSpec(
        SPECS["s3dg"], "pool_4a", 2, width_multiplier=2 / 3
    ),
}
