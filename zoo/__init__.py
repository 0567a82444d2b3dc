"""Published models by name, plain and multi-headed.

>>> import zoo
>>> model = zoo.build("cifar_resnet20", classes=100)
>>> model.name, model.output_shape
('cifar_resnet20', (None, 100))
>>> zoo.SPECS["resnet152_2heads"].width_multiplier
0.6875

One file per family: `zoo/resnet.py` (EnsembleNet section 4.1, ONE, and CIFAR),
`zoo/dbof.py` (EnsembleNet section 4.2, YouTube-8M), and beside it on YouTube-8M
`zoo/nextvlad.py` and `zoo/video_level.py`; `zoo/s3dg.py` (EnsembleNet section 4.3,
Kinetics) with the Inception-v1 that `inflate` starts it from; `zoo/resnext.py` (ONE);
`zoo/cifar10_quick.py`, `zoo/nin.py`, `zoo/caffenet.py` and, for detection,
`zoo/fast_rcnn.py` (Why M heads); `zoo/mlp.py`, `zoo/small_cnn.py` and
`zoo/densenet.py` (joint training; the last one ONE as well).
"""

from zoo import (
    caffenet,
    cifar10_quick,
    dbof,
    densenet,
    fast_rcnn,
    mlp,
    nextvlad,
    nin,
    resnet,
    resnext,
    s3dg,
    small_cnn,
    video_level,
)
from zoo.batch_norm import BatchNormalization
from zoo.inflation import inflate
from zoo.local_response import LocalResponseNormalization
from zoo.region_pooling import RegionPooling
from zoo.specs import ModelSpec, MultiHeadSpec, closest, merge

_FAMILIES = (resnet, resnext, densenet, nin, caffenet, cifar10_quick, mlp, small_cnn)
_FAMILIES += (fast_rcnn, dbof, nextvlad, video_level, s3dg)
SPECS = merge(*(family.SPECS for family in _FAMILIES))


def names():
    """The names that `build` takes, family by family."""
    return list(SPECS)


def build(name, **changes):
    """Builds a model of the zoo with newly drawn weights.

    Args:
        name: a key of `SPECS`.
        **changes: fields of the row to replace, such as `input_shape`, `classes`,
            `classifier_activation` or `weight_decay`; a multi-headed row takes its
            own fields and those of its base row.

    Returns:
        A `keras.Model` called `name`; for a multi-headed row an `eh.MultiHeadModel`.
        Under `keras.mixed_precision.set_global_policy` it computes in the policy's
        dtype, its outputs in float32 at least.

    Raises:
        ValueError: an unknown name or field (the closest are listed), or a value that
            the field does not allow.
    """
    if name not in SPECS:
        raise ValueError(
            f"`name` must be a model of the zoo.{closest(name, SPECS)} "
            f"All names: {', '.join(SPECS)}. Received: name={name!r}"
        )
    return SPECS[name].with_changes(**changes).build(name)


__all__ = [
    "SPECS",
    "BatchNormalization",
    "LocalResponseNormalization",
    "ModelSpec",
    "MultiHeadSpec",
    "RegionPooling",
    "build",
    "inflate",
    "names",
]
