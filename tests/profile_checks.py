"""What tests of profiles share: their rows and uncounted operations as dicts."""

import ensemble_heads as eh
from ensemble_heads.keras_api import keras


def rows(result):
    """{name: (parameters, FLOPs)}, checked to sum to the totals."""
    assert sum(row.parameters for row in result.rows) == result.parameters
    assert sum(row.flops for row in result.rows) == result.flops
    table = {row.name: (row.parameters, row.flops) for row in result.rows}
    assert len(table) == len(result.rows)
    return table


def uncounted(result):
    """{row name: sorted types of the operations that were not counted}."""
    table = {}
    for item in result.uncounted:
        table.setdefault(item.layer, []).append(item.op_type)
    return {name: sorted(types) for name, types in table.items()}


def layer_profile(layer, shape=(6,), **options):
    inputs = keras.Input(shape)
    return eh.profile(keras.Model(inputs, layer(inputs)), **options)
