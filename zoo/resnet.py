"""ResNet and SE-ResNet as EnsembleNet trains them, those of ONE, and CIFAR.

EnsembleNet section 4.1 (paper "End-to-end optimization of multi-headed models") takes
the post-activation ResNet and changes two things: a stage is subsampled in its LAST
unit (so that the next stage already starts at half resolution), and the rectified
units of the bottleneck are capped at 6. Convolutions start from N(0, 0.03).

What the paper leaves open, and what its printed sizes say about it:
* the stride of a last unit sits on its 3x3 convolution, its identity shortcut is
  subsampled without weights (a 1x1 max pool of stride 2), and the last stage keeps
  stride 1: only so do parameters and FLOPs of Table 1 come out;
* squeeze-and-excite acts on the unit's output before the addition, with reduction 16
  and one batch norm after each of its two 1x1 layers, which then need no bias.
Inferred without evidence in the sizes: the ReLU of the stem, after the addition and
inside squeeze-and-excite is not capped; padding is "same"; batch-norm momentum 0.9 and
epsilon 1e-5; the classifier starts from Keras' own initialiser.

ONE (Lan et al. 2018, arXiv:1806.04606) trains conventional ones (stride in a stage's
first unit, no cap, initial weights after He et al. 2015), whose branches have the last
stage and a classifier of their own. Weight decay 1e-4 is that of its code. Its code
also makes units bottlenecks from depth 44 on, so that its "ResNet-110" of 18 units a
stage is 164 layers deep; only so do the FLOPs of its three branches come out.

Layers are named by place, `stage2_unit3_conv1`; the layer that ends stage k is called
`stagek`, so that a fork can name it.
"""

from dataclasses import dataclass, replace
from typing import Any

from ensemble_heads.keras_api import keras
from zoo.batch_norm import BatchNormalization
from zoo.precision import output_dtype
from zoo.specs import ModelSpec, MultiHeadSpec

layers = keras.layers

_EXPANSION = {"bottleneck": 4, "basic": 1}
_STEM_KERNEL = {"imagenet": 7, "cifar": 3}
_BATCH_NORMS = {"fused": BatchNormalization, "keras": layers.BatchNormalization}


@dataclass(frozen=True)
class ResNetSpec(ModelSpec):
    """Shape of one ResNet with post-activation.

    Attributes:
        blocks: number of units in each stage.
        widths: channels of the 3x3 convolutions in each stage, exactly.
        unit: "bottleneck" (1x1, 3x3, 1x1 with 4 times the width) or "basic" (two 3x3).
        outputs: channels that bottleneck units give in each stage; None: 4 times their
            widths.
        groups: groups of a bottleneck's 3x3 convolution, as ResNeXt has them.
        se_ratio: squeeze width / channels of the unit's output; 0 leaves SE out.
        stride_placement: "last": the last unit of every stage but the last one halves
            the resolution, in its 3x3 convolution (the last 3x3 of a basic unit);
            "first": the first unit of every stage but the first one does, in its
            (first) 3x3 convolution, as is conventional.
        relu_cap: cap of the ReLUs inside a unit; None leaves them open. The one after
            the addition is never capped.
        stem: "imagenet" (7x7 of stride 2 and a 3x3 max pool of stride 2) or "cifar"
            (3x3 of stride 1).
        stem_width: channels of the stem.
        input_shape: `(height, width, channels)` of one image; height and width may
            be None.
        classes: number of classes.
        classifier_activation: of the output; None gives logits.
        weight_decay: c adds c / 2 * sum(w^2) over the kernels and the gammas of the
            batch norms to the loss, so that the gradient gains c * w.
        init_stddev: standard deviation of a convolution's initial weights; None takes
            He et al. 2015 (variance 2 / fan-in).
        batch_norm: "fused" (`zoo.BatchNormalization`) or "keras".
        batch_norm_momentum: share of the moving statistics that one step keeps.
        batch_norm_epsilon: added to the variance.
        batch_norm_synchronized: whether statistics are those of all replicas together.

    Raises:
        ValueError: a value that its field does not allow.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    unit: str = "bottleneck"
    outputs: tuple[int, ...] | None = None
    groups: int = 1
    se_ratio: float = 0.0
    stride_placement: str = "last"
    relu_cap: float | None = 6.0
    stem: str = "imagenet"
    stem_width: int = 64
    input_shape: tuple[int | None, ...] = (224, 224, 3)
    classes: int = 1000
    classifier_activation: Any = "softmax"
    weight_decay: float = 0.0
    init_stddev: float | None = 0.03
    batch_norm: str = "fused"
    batch_norm_momentum: float = 0.9
    batch_norm_epsilon: float = 1e-5
    batch_norm_synchronized: bool = False

    def __post_init__(self):
        self.normalise_tuples("blocks", "widths", "input_shape")
        for key in ("blocks", "widths"):
            sizes = getattr(self, key)
            if not sizes or not all(isinstance(n, int) and n > 0 for n in sizes):
                self.refuse(key, "hold a positive integer per stage")
        if len(self.blocks) != len(self.widths):
            self.refuse("widths", f"have one entry per stage, {len(self.blocks)}")
        self._check_unit()
        for key in ("stem_width", "classes"):
            if not isinstance(getattr(self, key), int) or getattr(self, key) < 1:
                self.refuse(key, "be a positive integer")
        *image, channels = self.input_shape or (None,)
        sizes = [size for size in image if size is not None] + [channels]
        whole = all(isinstance(size, int) and size > 0 for size in sizes)
        if len(image) != 2 or not whole:
            self.refuse("input_shape", "be (height, width, channels)")
        for key, known in (
            ("unit", _EXPANSION),
            ("stride_placement", ("last", "first")),
            ("stem", _STEM_KERNEL),
            ("batch_norm", _BATCH_NORMS),
        ):
            self.check_choice(key, known)
        if not 0 <= self.se_ratio <= 1:
            self.refuse("se_ratio", "be in [0, 1]")
        for key in ("relu_cap", "init_stddev"):
            if getattr(self, key) is not None and getattr(self, key) <= 0:
                self.refuse(key, "be positive or None")
        if self.weight_decay < 0:
            self.refuse("weight_decay", "not be negative")

    def _check_unit(self):
        self.check_sizes("groups")
        if any(width % self.groups for width in self.widths):
            self.refuse("groups", f"divide the widths {self.widths}")
        if self.outputs is not None:
            self.normalise_tuples("outputs")
            if len(self.outputs) != len(self.blocks):
                self.refuse("outputs", f"have one entry per stage, {len(self.blocks)}")
        for key, usual in (("outputs", None), ("groups", 1)):
            if self.unit == "basic" and getattr(self, key) != usual:
                self.refuse(key, f"be {usual} for basic units")

    def build(self, name):
        inputs = keras.Input(self.input_shape, name="images")
        x = _stem(inputs, self)
        for stage in range(len(self.blocks)):
            x = _stage(x, self, stage)
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        outputs = layers.Dense(
            self.classes,
            activation=self.classifier_activation,
            kernel_regularizer=_decay(self),
            dtype=output_dtype(),
            name="classifier",
        )(x)
        return keras.Model(inputs, outputs, name=name)


SPECS = {
    "resnet18": ResNetSpec((2, 2, 2, 2), unit="basic"),
    "resnet34": ResNetSpec((3, 4, 6, 3), unit="basic"),
    "resnet50": ResNetSpec((3, 4, 6, 3)),
    "resnet101": ResNetSpec((3, 4, 23, 3)),
    "resnet152": ResNetSpec((3, 8, 36, 3)),
}
SPECS |= {f"se_{key}": replace(spec, se_ratio=1 / 16) for key, spec in SPECS.items()}

# EnsembleNet Table 1 (a) and (b): 0.6875 makes (256, 512) into the printed (176, 352).
SPECS |= {
    f"{key}_2heads": MultiHeadSpec(SPECS[key], "stage2", 2, width_multiplier=0.6875)
    for key in ("resnet152", "se_resnet152")
}

# He et al. 2016a, section 4.2. Their parameter-free shortcuts, zeros in place of
# missing channels, are projections here: a channel of zeros cannot be narrowed.
_CIFAR = ResNetSpec(
    blocks=(3, 3, 3),
    widths=(16, 32, 64),
    unit="basic",
    stride_placement="first",
    relu_cap=None,
    stem="cifar",
    stem_width=16,
    input_shape=(32, 32, 3),
    classes=10,
    init_stddev=None,
)
SPECS |= {
    "cifar_resnet20": _CIFAR,
    "cifar_resnet32": replace(_CIFAR, blocks=(5, 5, 5)),
    "cifar_resnet56": replace(_CIFAR, blocks=(9, 9, 9)),
    "cifar_resnet110": replace(_CIFAR, blocks=(18, 18, 18)),
    "cifar_resnet110_bottleneck": replace(
        _CIFAR, blocks=(18, 18, 18), unit="bottleneck"
    ),
}

# ONE, section 3 and Tables 1 to 4. On ImageNet, of which it gives no sizes, the last of
# four stages is branched here, by analogy.
_ONE = {"stride_placement": "first", "relu_cap": None, "init_stddev": None}
_ONE |= {"weight_decay": 1e-4}
SPECS |= {
    f"{key}_3heads": MultiHeadSpec(
        replace(SPECS[key], classes=100, **_ONE), "stage2", 3
    )
    for key in ("cifar_resnet32", "cifar_resnet110_bottleneck")
}
SPECS["resnet18_3heads"] = MultiHeadSpec(
    replace(SPECS["resnet18"], **_ONE), "stage3", 3
)


def _stem(x, spec):
    stride = 2 if spec.stem == "imagenet" else 1
    kernel = _STEM_KERNEL[spec.stem]
    x = _conv_norm(x, spec, "stem", "", spec.stem_width, kernel, stride)
    x = layers.ReLU(name="stem_relu")(x)
    if spec.stem == "imagenet":
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    return x


def _stage(x, spec, stage):
    units = spec.blocks[stage]
    if spec.stride_placement == "last":
        strided = units - 1 if stage < len(spec.blocks) - 1 else None
    else:
        strided = 0 if stage > 0 else None
    for unit in range(units):
        prefix = f"stage{stage + 1}_unit{unit + 1}"
        stride = 2 if unit == strided else 1
        y = _residual(x, spec, stage, stride, prefix)
        if spec.se_ratio:
            y = _squeeze_excite(y, spec, prefix)
        shortcut = _shortcut(x, spec, y.shape[-1], stride, prefix)
        x = layers.Add(name=f"{prefix}_add")([shortcut, y])
        last = unit == units - 1
        x = layers.ReLU(name=f"stage{stage + 1}" if last else f"{prefix}_relu")(x)
    return x


def _residual(x, spec, stage, stride, prefix):
    width = spec.widths[stage]
    if spec.unit == "bottleneck":
        output = spec.outputs[stage] if spec.outputs else width * _EXPANSION[spec.unit]
        plan = [(width, 1, 1), (width, 3, stride), (output, 1, 1)]
    elif spec.stride_placement == "last":
        plan = [(width, 3, 1), (width, 3, stride)]
    else:
        plan = [(width, 3, stride), (width, 3, 1)]
    for index, (filters, kernel, step) in enumerate(plan, start=1):
        if index > 1:
            x = layers.ReLU(spec.relu_cap, name=f"{prefix}_relu{index - 1}")(x)
        groups = spec.groups if kernel == 3 else 1
        x = _conv_norm(x, spec, prefix, index, filters, kernel, step, groups)
    return x


def _shortcut(x, spec, channels, stride, prefix):
    if x.shape[-1] != channels:
        return _conv_norm(x, spec, f"{prefix}_shortcut", "", channels, 1, stride)
    if stride > 1:
        pool = layers.MaxPooling2D(1, strides=stride, name=f"{prefix}_shortcut_pool")
        return pool(x)
    return x


def _squeeze_excite(x, spec, prefix):
    """Hu et al. 2018 with a batch norm after each 1x1 layer (EnsembleNet 4.1)."""
    channels = x.shape[-1]
    squeezed = max(1, round(channels * spec.se_ratio))
    prefix = f"{prefix}_se"
    # Keras 2 adds up in the dtype of the layer: 56 x 56 places are beyond bfloat16.
    y = layers.GlobalAveragePooling2D(
        keepdims=True, dtype=output_dtype(), name=f"{prefix}_pool"
    )(x)
    y = _conv_norm(y, spec, prefix, 1, squeezed, 1, 1)
    y = layers.ReLU(name=f"{prefix}_relu")(y)
    y = _conv_norm(y, spec, prefix, 2, channels, 1, 1)
    y = layers.Activation("sigmoid", name=f"{prefix}_gate")(y)
    return layers.Multiply(name=f"{prefix}_scale")([x, y])


def _conv_norm(x, spec, prefix, index, filters, kernel, stride, groups=1):
    if spec.init_stddev is None:
        initializer = keras.initializers.HeNormal()
    else:
        initializer = keras.initializers.RandomNormal(stddev=spec.init_stddev)
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        groups=groups,
        use_bias=False,
        kernel_initializer=initializer,
        kernel_regularizer=_decay(spec),
        name=f"{prefix}_conv{index}",
    )(x)
    return _BATCH_NORMS[spec.batch_norm](
        momentum=spec.batch_norm_momentum,
        epsilon=spec.batch_norm_epsilon,
        synchronized=spec.batch_norm_synchronized,
        gamma_regularizer=_decay(spec),
        name=f"{prefix}_bn{index}",
    )(x)


def _decay(spec):
    if not spec.weight_decay:
        return None
    return keras.regularizers.L2(spec.weight_decay / 2)
