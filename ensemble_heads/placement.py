"""Computations on devices by name, with all that training makes of them.

What a `tf.device` scope misses is what TensorFlow adds later: gradients, which a tape
puts on no device, and the optimizer's variables and arithmetic.
"""

import contextlib

import tensorflow as tf

from ensemble_heads.keras_api import KERAS_3, LEGACY_OPTIMIZERS

# Operations that call functions.
_CALLS = {"If", "While", "Case", "PartitionedCall", "StatefulPartitionedCall"}
_CALLS |= {f"Stateless{name}" for name in ("If", "While", "Case")}


def check_devices(devices, num_heads):
    """The devices of heads in one spelling, checked.

    Args:
        devices: list with, for every head, the name of a device that TensorFlow knows,
            or None.
        num_heads: int.

    Returns:
        Tuple of str or None, as `tf.config.list_logical_devices` names them.

    Raises:
        ValueError: another number of devices, or an unknown one.
    """
    if not isinstance(devices, list | tuple) or len(devices) != num_heads:
        raise ValueError(
            "`devices` must be a list of one device for each of the "
            f"{num_heads} heads, None for where the trunk is. "
            f"Received: devices={devices!r}"
        )
    known = {canonical(one.name) for one in tf.config.list_logical_devices()}
    found = [None if name is None else _find(name, known) for name in devices]
    unknown = [name for name, one in zip(devices, found) if name and one is None]
    if unknown:
        raise ValueError(
            f"`devices` must name devices that TensorFlow knows here: "
            f"{', '.join(sorted(known))}. Those of other processes come from "
            f"`eh.remote_devices`. Received: devices={list(devices)!r}, of which "
            f"{', '.join(map(str, unknown))} cannot be found"
        )
    return tuple(found)


def check_export(devices):
    """Raises a `ValueError` where Keras' own export would keep the heads' devices."""
    if devices:
        raise ValueError(
            "`export` must be that of a model without devices, for which it would be "
            "asked where it is loaded: `eh.export` leaves them out, as does "
            f"`model.with_devices(None)`. Received: devices={devices}"
        )


def canonical(name):
    """The name of a device, without job and task where they are this process's."""
    name = name if name.startswith("/") else f"/device:{name}"
    spec = tf.DeviceSpec.from_string(name)
    if spec.job in (None, "localhost"):
        return f"/device:{spec.device_type}:{spec.device_index}"
    return spec.to_string()


def run_on(device, function, inputs):
    """Runs a function on a device, and its gradient there too.

    Only `inputs`, results, and the gradients of both come from or go to where the
    caller is.

    Args:
        device: str, or None for where the caller is.
        function: callable, list of tensors -> list of tensors or None. What it reads
            of variables, it reads on the device.
        inputs: list of tensors.

    Returns:
        What `function` returns.
    """
    if device is None:
        return function(inputs)
    wanted = []  # for each result, whether it is a tensor

    @tf.custom_gradient
    def placed(*tensors):
        with tf.device(device), tf.GradientTape(persistent=True) as tape:
            here = [tf.identity(tensor) for tensor in tensors]
            tape.watch([tensor for tensor in here if tensor.dtype.is_floating])
            results = function(here)
        wanted[:] = [one is not None for one in results]
        results = [one for one in results if one is not None]

        def gradient(*upstream, variables=()):
            variables = list(variables or ())
            pairs = [(r, u) for r, u in zip(results, upstream) if r.dtype.is_floating]
            with tf.device(device):
                found = tape.gradient(
                    [result for result, _ in pairs],
                    [*here, *variables],
                    output_gradients=[tf.identity(given) for _, given in pairs],
                )
            return found[: len(here)], found[len(here) :]

        return results, gradient

    results = iter(tf.nest.flatten(placed(*inputs)))
    return [next(results) if present else None for present in wanted]


@contextlib.contextmanager
def following(devices, optimizer):
    """Operations made inside are on that of these devices where their inputs are.

    For an optimizer's step: what is made of a gradient or a variable is where those
    are, and numbers travel. It holds in graphs; steps run as Python compute elsewhere.

    Args:
        devices: collection of str or None.
        optimizer: Keras optimizer that is applied inside.
    """
    names = {canonical(name) for name in devices if name is not None}
    if not names or tf.executing_eagerly():
        yield
        return
    with tf.compat.v1.get_default_graph().device(_Follower(names)):
        with _without_sums_over_replicas(optimizer):
            yield


@contextlib.contextmanager
def _without_sums_over_replicas(optimizer):
    """Summed up over its one replica, all gradients would go through one operation."""
    own = vars(getattr(optimizer, "inner_optimizer", optimizer))
    name = "_all_reduce_sum_gradients" if KERAS_3 else "aggregate_gradients"
    own[name] = lambda gradients_and_variables: gradients_and_variables
    try:
        yield
    finally:
        del own[name]


def device_of(variable, devices):
    """That of some devices where a variable is; None if it is elsewhere."""
    if not devices:  # a strategy's variables are on several at once
        return None
    if not isinstance(variable, tf.Variable):
        variable = variable.value  # of Keras 3
    device = canonical(variable.device) if variable.device else None
    return device if device in devices else None


def on(device):
    """A context on a device; without effect for None."""
    return contextlib.nullcontext() if device is None else tf.device(device)


def beside(variable, devices):
    """A context on that of some devices where a variable is; else without effect."""
    return on(device_of(variable, devices))


def build_optimizer(optimizer, variables, devices):
    """Makes an optimizer's variables, each beside that which it belongs to.

    Args:
        optimizer: Keras optimizer.
        variables: list of the trainable variables.
        devices: collection of str or None.

    Raises:
        ValueError: an optimizer whose variables cannot be placed.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if isinstance(inner, LEGACY_OPTIMIZERS):
        raise ValueError(
            "`optimizer` must be none of Keras' legacy ones for heads on devices: "
            "their variables cannot be placed. "
            f"Received: optimizer={type(inner).__name__}"
        )
    before, placed = _ids(inner), set()
    make = inner.add_variable_from_reference

    def make_beside(*args, **kwargs):
        by_name = kwargs.get("reference_variable", kwargs.get("model_variable"))
        with beside(args[0] if args else by_name, devices):
            made = make(*args, **kwargs)
        placed.add(id(made))
        return made

    vars(inner)["add_variable_from_reference"] = make_beside
    try:
        optimizer.build(variables)
    finally:
        del vars(inner)["add_variable_from_reference"]
    elsewhere = [
        one
        for one in _variables(inner)
        if len(one.shape) and id(one) not in placed and id(one) not in before
    ]
    if elsewhere:
        raise ValueError(
            "`optimizer` must keep its state in the shapes of the weights for heads on "
            "devices, as SGD and Adam do, so that it can be where they are. "
            f"Received: optimizer={type(inner).__name__}, which makes "
            f"{elsewhere[0].name} of shape {tuple(elsewhere[0].shape)}"
        )
    if hasattr(inner, "jit_compile"):
        inner.jit_compile = False  # XLA programs are on one device


class _Follower:
    """Function operation -> device, as `tf.Graph.device` takes it."""

    def __init__(self, devices):
        self.devices = devices
        gpus = tf.config.list_logical_devices("GPU")
        self.elsewhere = canonical(gpus[0].name if gpus else "CPU:0")

    def __call__(self, op):
        if op.device:
            return op.device
        if op.type in _CALLS:  # where what is inside is that has no place of its own
            return self.elsewhere
        for tensor in op.inputs:
            if tensor.shape.rank == 0 and tensor.dtype != tf.resource:
                continue
            device = _place(tensor)
            if device and canonical(device) in self.devices:
                return device
        return ""


def _place(tensor):
    """Device of a tensor; what is read of a variable is where the variable is."""
    while not tensor.device:
        if tensor.op.type == "ReadVariableOp":  # device functions do not see these
            tensor = tensor.op.inputs[0]
            continue
        outer = [a for a, b in getattr(tensor.graph, "captures", ()) if b is tensor]
        if not outer:
            return ""
        tensor = outer[0]
    return tensor.device


def _find(name, known):
    try:
        spelled = canonical(name)
    except (ValueError, AttributeError):
        return None
    return spelled if spelled in known else None


def _variables(optimizer):
    listed = optimizer.variables
    return listed() if callable(listed) else listed


def _ids(optimizer):
    return set(map(id, _variables(optimizer)))
