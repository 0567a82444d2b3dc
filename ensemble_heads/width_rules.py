"""The table of width rules: how each kind of layer ties the sizes of its axes."""

from ensemble_heads.keras_api import KERAS_3, keras

RULES = {}
OPERATION_RULES = {}


def width_rule(*classes):
    """Decorator: the function is the width rule of these layer classes.

    Args:
        *classes: layer classes; or names of classes of packages that need not be
            installed, matched against the class name.

    A rule is called `rule(tracer, node)` for every call of such a layer. It reads
    `tracer.input_axes(node)`, makes the layer's own widths with `tracer.width`, and
    tells the outputs with `tracer.set_outputs`, the configuration entries that hold
    sizes with `tracer.set_config` and the axes of the weights, in the order of
    `layer.weights`, with `tracer.set_weights`.
    """

    def register(rule):
        for cls in classes:
            RULES[cls] = rule
        return rule

    return register


def keras_layers(*names):
    """Those of the named classes of `keras.layers` that this line of Keras has."""
    known = [name for name in names if hasattr(keras.layers, name)]
    return [getattr(keras.layers, name) for name in known]


def operation_rule(*names):
    """Decorator: the function is the width rule of bare operations of these names.

    Args:
        *names: as TensorFlow exports them, without the module (`"reshape"`), and as
            Keras 3 calls the operation's class (`"Reshape"`).
    """

    def register(rule):
        for name in names:
            OPERATION_RULES[name] = rule
        return rule

    return register


def find(layer):
    """The width rule of a layer or operation; None if there is none."""
    for cls in type(layer).__mro__:
        rule = RULES.get(cls) or RULES.get(cls.__name__)
        if rule:
            return rule
    name = operation_name(layer)
    return OPERATION_RULES.get(name) if name else None


def operation_name(layer):
    """The name of a bare operation; None for a layer.

    In Keras 2 it is the last part of TensorFlow's name (`"reshape"`), in Keras 3
    the operation's class (`"Reshape"`).
    """
    if KERAS_3:
        is_layer = isinstance(layer, keras.layers.Layer)
        return None if is_layer else type(layer).__name__
    symbol = getattr(layer, "symbol", None)
    if type(layer).__name__ not in ("TFOpLambda", "SlicingOpLambda"):
        return None
    return symbol.rsplit(".", 1)[-1] if symbol else None
