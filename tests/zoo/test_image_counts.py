"""The other papers' image models: every size exact, and equal to a sum by hand."""

import pytest

import ensemble_heads as eh
import zoo
from recipes.published_sizes import ROWS
from tests.zoo import sizes
from zoo import caffenet, cifar10_quick, densenet, mlp, nin, resnet, resnext, small_cnn
from zoo.specs import MultiHeadSpec

FAMILIES = (resnext, densenet, nin, caffenet, cifar10_quick, mlp, small_cnn)
SPECS = {name: spec for one in FAMILIES for name, spec in one.SPECS.items()}
SPECS |= {
    name: spec
    for name, spec in resnet.SPECS.items()
    if name.endswith("_3heads") or name == "cifar_resnet110_bottleneck"
}
COUNTS = sizes.stored("image_counts.csv") | {
    name: counts
    for name, counts in sizes.stored("resnet_counts.csv").items()
    if name in SPECS
}
SLOW = [
    name
    for name, spec in SPECS.items()
    if isinstance(spec, MultiHeadSpec)
    and name.startswith(("densenet", "resnext", "caffenet", "cifar_resnet110"))
]


def conv(kernel, before, after, groups=1, bias=True):
    return kernel * kernel * before // groups * after + (after if bias else 0)


def kernels(*sizes):
    return sum(conv(*size) for size in sizes)


class Net:
    """Sizes of the parts of a network, from the input on.

    Attributes:
        parts: (trainable, statistics, folded) of each part; a fork is behind one.
    """

    def __init__(self):
        self.parts = []

    def plain(self, *layers):
        """Layers with biases and without batch norm."""
        size = sum(layers)
        self.parts.append((size, 0, size))

    def normed(self, size, channels, kept=0):
        """Kernels without biases, and batch norms, of which `kept` cannot be folded.

        A folded one leaves a bias a channel, a kept one two weights and two statistics.
        """
        trainable = size + 2 * (channels + kept)
        folded = size + channels + 4 * kept
        self.parts.append((trainable, 2 * (channels + kept), folded))

    def counts(self, shared, heads):
        """Of a model that shares the first parts."""
        sums = [0, 0, 0]
        for index, part in enumerate(self.parts):
            times = 1 if index < shared else heads
            sums = [total + times * size for total, size in zip(sums, part)]
        trainable, statistics, folded = sums
        both = (trainable, trainable + statistics, folded)
        return dict(zip(sizes.COLUMNS, both, strict=True))


def bottlenecks(blocks, widths, outputs, groups, stem, classes, stem_kernel):
    net, before = Net(), stem
    net.normed(conv(stem_kernel, 3, stem, bias=False), stem)
    for units, width, after in zip(blocks, widths, outputs):
        size = channels = 0
        for unit in range(units):
            size += conv(1, before, width, bias=False)
            size += conv(3, width, width, groups, bias=False)
            size += conv(1, width, after, bias=False)
            channels += 2 * width + after
            if unit == 0:  # in all rows here the first unit changes the channels
                size += conv(1, before, after, bias=False)
                channels += after
            before = after
        net.normed(size, channels)
    net.plain(conv(1, before, classes))
    return net


def basics(blocks, widths, stem, classes, stem_kernel):
    net, before = Net(), stem
    net.normed(conv(stem_kernel, 3, stem, bias=False), stem)
    for units, width in zip(blocks, widths):
        size = channels = 0
        for _ in range(units):
            size += conv(3, before, width, bias=False)
            size += conv(3, width, width, bias=False)
            channels += 2 * width
            if before != width:
                size += conv(1, before, width, bias=False)
                channels += width
            before = width
        net.normed(size, channels)
    net.plain(conv(1, before, classes))
    return net


def dense_blocks(depth, growth, classes):
    net, channels = Net(), 2 * growth
    net.normed(conv(3, 3, channels, bias=False), 0)
    for block in range(3):
        size = folded = kept = 0
        for _ in range((depth - 4) // 6):
            size += conv(1, channels, 4 * growth, bias=False)
            size += conv(3, 4 * growth, growth, bias=False)
            folded, kept = folded + 4 * growth, kept + channels
            channels += growth
        if block < 2:
            size += conv(1, channels, channels // 2, bias=False)
            kept, channels = kept + channels, channels // 2
        net.normed(size, folded, kept)
    net.normed(0, 0, channels)
    net.plain(conv(1, channels, classes))
    return net


def nets():
    """{row: (network by hand, parts shared, heads)}."""
    one = {
        "cifar10_quick": plain(
            *(kernels((5, 3, 32), (5, 32, 32)), conv(5, 32, 64)),
            *(conv(1, 4 * 4 * 64, 64), conv(1, 64, 10)),
        ),
        "caffenet": plain(
            *(conv(11, 3, 96), conv(5, 96, 256, 2), conv(3, 256, 384)),
            *(conv(3, 384, 384, 2), conv(3, 384, 256, 2)),
            *(conv(1, 6 * 6 * 256, 4096), conv(1, 4096, 4096), conv(1, 4096, 1000)),
        ),
        "nin_cifar": plain(
            *kernel_list((5, 3, 192), (1, 192, 160), (1, 160, 96), (5, 96, 192)),
            *kernel_list((1, 192, 192), (1, 192, 192), (3, 192, 192)),
            *kernel_list((1, 192, 192), (1, 192, 100)),
        ),
        "nin_imagenet": plain(
            *kernel_list((11, 3, 96), (1, 96, 96), (1, 96, 96), (5, 96, 256)),
            *kernel_list((1, 256, 256), (1, 256, 256), (3, 256, 384)),
            *kernel_list((1, 384, 384), (1, 384, 384), (3, 384, 1024)),
            *kernel_list((1, 1024, 1024), (1, 1024, 1000)),
        ),
        "small_cnn": plain(
            *kernel_list((3, 3, 32), (3, 32, 64), (3, 64, 64), (3, 64, 128)),
            *kernel_list((3, 128, 128), (1, 128, 10)),
        ),
        "cifar_resnet110_bottleneck": bottlenecks(
            (18, 18, 18), (16, 32, 64), (64, 128, 256), 1, 16, 10, 3
        ),
        "resnext29_8x64d": bottlenecks(
            (3, 3, 3), (512, 1024, 2048), (256, 512, 1024), 8, 64, 10, 3
        ),
        "resnext50_32x4d": bottlenecks(
            *((3, 4, 6, 3), (128, 256, 512, 1024), (256, 512, 1024, 2048)),
            *(32, 64, 1000, 7),
        ),
    }
    for units in (1024, 64, 16, 4):
        one[f"mlp_{units}"] = plain(conv(1, 784, units), conv(1, units, 10))
    for depth, growth in ((190, 40), (100, 12), (82, 8), (64, 6)):
        name = f"densenet_bc_{depth}_{growth}"
        one[name] = dense_blocks(depth, growth, 100)
    table = {name: (net, 0, 1) for name, net in one.items() if name in SPECS}
    of_100 = bottlenecks((18, 18, 18), (16, 32, 64), (64, 128, 256), 1, 16, 100, 3)
    return table | {
        "mlp_1m_1024h": (one["mlp_1024"], 0, 1),
        "mlp_16m_64h": (one["mlp_64"], 0, 16),
        "mlp_64m_16h": (one["mlp_16"], 0, 64),
        "mlp_256m_4h": (one["mlp_4"], 0, 256),
        "small_cnn_10heads": (one["small_cnn"], 0, 10),
        "cifar10_quick_3heads": (one["cifar10_quick"], 1, 3),
        "cifar10_quick_4heads": (one["cifar10_quick"], 0, 4),
        "caffenet_5heads": (one["caffenet"], 1, 5),
        "nin_cifar_4heads": (one["nin_cifar"], 0, 4),
        "nin_imagenet_4heads": (one["nin_imagenet"], 2, 4),
        "densenet_bc_100_12_4heads": (one["densenet_bc_100_12"], 0, 4),
        "densenet_bc_82_8_8heads": (one["densenet_bc_82_8"], 0, 8),
        "densenet_bc_64_6_16heads": (one["densenet_bc_64_6"], 0, 16),
        "densenet_bc_190_40_3heads": (one["densenet_bc_190_40"], 3, 3),
        "resnext29_8x64d_3heads": (one["resnext29_8x64d"], 3, 3),
        "resnext50_32x4d_3heads": (one["resnext50_32x4d"], 4, 3),
        "cifar_resnet32_3heads": (
            *(basics((5, 5, 5), (16, 32, 64), 16, 100, 3), 3, 3),
        ),
        "cifar_resnet110_bottleneck_3heads": (of_100, 3, 3),
        "resnet18_3heads": (
            *(basics((2, 2, 2, 2), (64, 128, 256, 512), 64, 1000, 7), 4, 3),
        ),
    }


def plain(*sizes):
    net = Net()
    for size in sizes:
        net.plain(size)
    return net


def kernel_list(*sizes):
    return [conv(*size) for size in sizes]


@pytest.mark.parametrize("name", SPECS)
def test_by_hand(name):
    net, shared, heads = nets()[name]
    assert COUNTS[name] == net.counts(shared, heads)


def test_every_row_has_its_counts():
    assert COUNTS.keys() == SPECS.keys()


def measured(name):
    """As built; what folding leaves is counted where there is anything to fold."""
    model = zoo.build(name)
    counts = sizes.counted(model)
    if name.startswith("densenet"):
        del counts["folded"]
    return counts


@pytest.mark.shared_out
@pytest.mark.parametrize("name", [name for name in SPECS if name not in SLOW])
def test_as_built(name):
    counts = measured(name)
    assert counts == {key: COUNTS[name][key] for key in counts}


@pytest.mark.line("2.15")
@pytest.mark.parametrize("name", SLOW)
def test_large_ones_as_built(name):
    counts = measured(name)
    assert counts == {key: COUNTS[name][key] for key in counts}


@pytest.mark.parametrize("name", ["densenet_bc_64_6", "densenet_bc_82_8"])
def test_what_folding_leaves_of_densenet(name):
    profile = eh.profile(zoo.build(name))
    assert profile.parameters == COUNTS[name]["folded"]
    assert profile.total_parameters == COUNTS[name]["total"]


def test_well_known_sizes():
    """Caffe's model zoo, torchvision, and the tables of Xie et al. and Huang et al."""
    known = {
        "caffenet": 60_965_224,
        "cifar10_quick": 145_578,
        "resnext50_32x4d": 25_028_904,
    }
    for name, size in known.items():
        assert COUNTS[name]["trainable"] == size
    for name, millions in (("resnext29_8x64d", 34.4), ("densenet_bc_100_12", 0.8)):
        assert round(COUNTS[name]["trainable"] / 1e6, 1) == millions


def test_share_of_parameters_that_nin_saves():
    """0.4 % at the split that the paper calls the best, 7 % (to the digit) at two."""
    net = nets()["nin_imagenet"][0]
    whole = 4 * net.counts(0, 1)["trainable"]
    places = ("conv1", "cccp1", "cccp2", "conv2", "cccp3", "cccp4")
    saved = {
        place: 1 - net.counts(shared, 4)["trainable"] / whole
        for shared, place in enumerate(places, start=1)
    }
    assert saved["cccp1"] == pytest.approx(0.0044, abs=5e-5)
    assert [place for place in places if f"{saved[place]:.0%}" == "7%"] == [
        *("conv2", "cccp3"),
    ]


def test_every_published_figure_has_its_row():
    """Those of the other papers: each is claimed, or its row says why not."""
    others = [row for row in ROWS if "EnsembleNet" not in row.source]
    for row in others:
        printed = {key for key in ("parameters", "flops", "saved") if getattr(row, key)}
        assert printed <= set(row.reproduced) or row.reason
    named = {row.model for row in others}
    for name, spec in SPECS.items():
        modules = isinstance(spec, MultiHeadSpec) and name.startswith(("mlp", "small"))
        assert not modules or name in named
