"""The published model sizes that `recipes/model_sizes.py` compares with ours.

Where a figure is not claimed as reproduced, its row says why.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

QUANTITIES = ("parameters", "flops", "saved")
COUNTS = {"folded": "parameters", "trainable": "trainable_parameters"}


CIFAR_10, CIFAR_100 = {"classes": 10}, {"classes": 100}


@dataclass(frozen=True)
class Row:
    """One published model: where its sizes are printed, and how.

    Attributes:
        source: paper and table.
        model: name in the zoo.
        parameters, flops: as printed, such as "60.1M", or "~815K" where the paper says
            "about"; None where nothing is printed.
        saved: as printed, such as "7%": the parameters that a multi-headed model has
            fewer than as many separate networks.
        reproduced: the quantities that ours are claimed to print alike.
        count: which parameters the figure counts, a key of `COUNTS`.
        frames: numbers of frames to count the FLOPs of the whole model for, where
            those printed leave out the layers before the pooling.
        products: whether the FLOPs are two per multiply-add of a convolution or dense
            layer and nothing else; otherwise those of TensorFlow's profiler.
        changes: fields of the zoo's row to replace.
        reason: why a figure is not claimed.
    """

    source: str
    model: str
    parameters: str | None = None
    flops: str | None = None
    saved: str | None = None
    reproduced: tuple[str, ...] = QUANTITIES
    count: str = "folded"
    frames: tuple[int, ...] = ()
    products: bool = False
    changes: Mapping = field(default_factory=dict)
    reason: str = ""


def one(model, parameters, flops=None, **options):
    """A row of ONE, Lan et al. 2018.

    It does not say what its FLOPs count. Multiply-adds of convolutions, projections
    included, and dense layers alone give 138M, 228M and 829M to the digit; with biases
    and additions, as the profiler counts, these would be 139M, 229M and 836M.
    """
    source, options = "ONE, Tables 1, 3 and 4", {"count": "trainable", **options}
    return Row(source, model, parameters, flops, products=True, **options)


ROWS = (
    Row("EnsembleNet, Table 1a", "resnet152", "60.1M", "21.8B"),
    Row("EnsembleNet, Table 1a", "resnet152_2heads", "58.2M", "21.0B"),
    Row("EnsembleNet, Table 1b", "se_resnet152", "66.7M", "21.9B"),
    Row("EnsembleNet, Table 1b", "se_resnet152_2heads", "64.5M", "21.1B"),
    Row("EnsembleNet, Table 2", "dbof", "229M", "415M", frames=(25, 300)),
    Row("EnsembleNet, Table 2", "dbof_2heads", "226M", "410M", frames=(25, 300)),
    Row("EnsembleNet, Table 3", "s3dg", "9.7M", "129B"),
    Row("EnsembleNet, Table 3", "s3dg_2heads", "9.7M", "129B"),
    Row(
        *("EnsembleNet, Table 3", "s3dg_2heads_two_thirds", "9.7M", "129B"),
        reproduced=(),
        reason='the paper says "reduced by a factor of about 1.5", but with 2/3 of '
        "every width branches are smaller than printed; with 0.8 of the widths of the "
        "1x1 reductions, which it does not give, they are as printed",
    ),
    Row(
        *("NeXtVLAD, by its code", "nextvlad", "88.9M"),
        reproduced=(),
        count="trainable",
        reason='the paper says "less than 80M"; 88.9M is what its authors\' code adds '
        "up to, gate and classifier included, so no figure that could be reproduced",
    ),
    one("cifar_resnet32", "0.5M", "138M", changes=CIFAR_100),
    one("cifar_resnet32_3heads", None, "228M"),
    one(
        *("cifar_resnet110", "1.7M", "505M"),
        reproduced=("parameters",),
        changes=CIFAR_100,
        reason="with basic units, as the paper has it, one network costs 506M FLOPs, "
        "but three branches 842M, which the paper's 829M rule out",
    ),
    one(
        *("cifar_resnet110_bottleneck", "1.7M", "505M"),
        reproduced=("parameters",),
        changes=CIFAR_100,
        reason="with bottlenecks, as its code has it, three branches cost the 829M of "
        "the paper, but one network 495M; 505M and 829M fit no one kind of unit",
    ),
    one("cifar_resnet110_bottleneck_3heads", None, "829M"),
    one("resnext29_8x64d", "34.4M"),
    one("densenet_bc_190_40", "25.6M", changes=CIFAR_10),
    *(
        Row("Joint training, section 4.1", f"mlp_{kind}", "~815K", count="trainable")
        for kind in ("1m_1024h", "16m_64h", "64m_16h", "256m_4h")
    ),
    Row(
        *("Joint training, section 4.2", "small_cnn_10heads", "~2.8M"),
        count="trainable",
    ),
    *(
        Row("Joint training, Table 4", f"densenet_bc_{kind}", size, count="trainable")
        for kind, size in (
            ("100_12_4heads", "3.2M"),
            ("82_8_8heads", "2.1M"),
            ("64_6_16heads", "1.7M"),
        )
    ),
    Row(
        *("Why M heads, section 5", "nin_imagenet_4heads"),
        saved="7%",
        reproduced=(),
        count="trainable",
        reason="the text gives 7% for the best TreeNet, split at cccp1 by Table 2; by "
        "the authors' definition the layers up to there hold 0.6% of a network",
    ),
    Row(
        *("Why M heads, section 5", "nin_imagenet_4heads"),
        saved="7%",
        reproduced=(),
        count="trainable",
        changes={"fork_at": "conv2"},
        reason="the paper does not name this split; of the six in its table this one "
        "(6.6%) and the next, cccp3 (7.2%), print 7%",
    ),
)
