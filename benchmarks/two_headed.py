"""The networks with two heads that several benchmarks take."""

import zoo


def two_headed(name, **changes):
    """`eh.MultiHeadModel` of a row of the zoo, forked as Table 1 forks ResNet-152.

    Args:
        name: key of `zoo.SPECS`, a network with stages.
        **changes: fields of the row to replace.
    """
    single = zoo.SPECS[name].with_changes(**changes)
    spec = zoo.MultiHeadSpec(single, "stage2", num_heads=2, width_multiplier=0.6875)
    return spec.build(f"{name}_2heads")
