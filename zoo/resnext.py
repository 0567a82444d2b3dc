"""ResNeXt (Xie et al. 2017, arXiv:1611.05431), for CIFAR and ImageNet.

A bottleneck ResNet whose 3x3 convolutions are grouped, wider than the unit's output
over 4: `zoo.resnet` builds it. The stride is in the 3x3 convolution of a stage's first
unit, nothing is capped, convolutions are drawn as He et al. 2015 do. 8x64d stands for
8 groups of 64 channels in the first stage. The weight decays are the paper's, 5e-4 on
CIFAR and 1e-4 on ImageNet, on kernels and gammas.
"""

from dataclasses import replace

from zoo.resnet import SPECS as RESNETS
from zoo.specs import MultiHeadSpec

_CIFAR = replace(
    RESNETS["cifar_resnet110_bottleneck"],
    blocks=(3, 3, 3),
    stem_width=64,
    weight_decay=5e-4,
)

SPECS = {
    # Xie et al. 2017, section 5.3; Lan et al. 2018 (ONE), Table 1
    "resnext29_8x64d": replace(
        _CIFAR, widths=(512, 1024, 2048), outputs=(256, 512, 1024), groups=8
    ),
    # Xie et al. 2017, Table 1; Lan et al. 2018 (ONE), Table 2
    "resnext50_32x4d": replace(
        RESNETS["resnet50"],
        widths=(128, 256, 512, 1024),
        outputs=(256, 512, 1024, 2048),
        groups=32,
        stride_placement="first",
        relu_cap=None,
        init_stddev=None,
        weight_decay=1e-4,
    ),
}

# ONE (Lan et al. 2018, section 3): each branch has a last stage and a classifier.
SPECS |= {
    "resnext29_8x64d_3heads": MultiHeadSpec(SPECS["resnext29_8x64d"], "stage2", 3),
    "resnext50_32x4d_3heads": MultiHeadSpec(SPECS["resnext50_32x4d"], "stage3", 3),
}
