"""Devices of other processes and hosts, for heads to be on."""

import socket
import threading

import tensorflow as tf

from ensemble_heads import clusters

JOB = "heads"
_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an HTTP/2 frame: 3 of length, its type
_connected = []  # addresses, once there are any


def serve_devices(port):
    """Lends this process's devices to another one, until the process is ended.

    It needs nothing but TensorFlow, of the other's version. Whoever can reach the
    port can have this process compute anything: only within a network that you trust.

    Args:
        port: int, on all addresses of this host.

    Raises:
        ClusterError: the port is taken.
    """
    try:
        server = tf.distribute.Server(
            {JOB: [f"localhost:{port}"]}, job_name=JOB, task_index=0, protocol="grpc"
        )
    except tf.errors.OpError as error:
        raise clusters.ClusterError(
            f"`port` must be free on this host ({error.message}). Received: port={port}"
        ) from error
    print(f"Devices are served on port {port}.", flush=True)
    threading.Event().wait()  # unlike `server.join`, it lets Ctrl-C through
    del server


def remote_devices(addresses, timeout=60):
    """Connects to processes that run `serve_devices`, for `model.with_devices`.

    To be called before TensorFlow computes anything, and once: a later call must have
    the same addresses, and returns the same names.

    Args:
        addresses: list of str, each as `"host:port"`.
        timeout: float, seconds in which all must answer.

    Returns:
        List of names of devices, in the order of the addresses: all GPUs of a process,
        or its CPU where it has none.

    Raises:
        ClusterError: addresses in another form or twice, or that do not answer in time
            (they are named), or a second set of them.
    """
    addresses = [addresses] if isinstance(addresses, str) else list(addresses)
    _check(addresses)
    if not _connected:
        clusters.await_answers(addresses, timeout)
        _connect(addresses, timeout)
        _connected.extend(addresses)
    elif _connected != addresses:
        raise clusters.ClusterError(
            "`addresses` must be those that this process is connected to, "
            f"{', '.join(_connected)}: it has one set of them. "
            f"Received: addresses={addresses}"
        )
    names = []
    for task in range(len(addresses)):
        place = f"/job:{JOB}/replica:0/task:{task}/"
        own = [d for d in tf.config.list_logical_devices() if d.name.startswith(place)]
        gpus = [device.name for device in own if device.device_type == "GPU"]
        cpus = [device.name for device in own if device.device_type == "CPU"]
        names += gpus or cpus[:1]
    return names


def _check(addresses):
    wrong = [one for one in addresses if not one.rpartition(":")[2].isdigit()]
    if not addresses or wrong or len(set(addresses)) < len(addresses):
        raise clusters.ClusterError(
            "`addresses` must be a list of host:port, each once. "
            f"Received: addresses={addresses}"
        )


def _connect(addresses, timeout):
    wrong = [one for one in addresses if not _speaks_grpc(one, timeout)]
    reason = f"no gRPC from {', '.join(wrong)}"
    if not wrong:
        try:
            spec = tf.train.ClusterSpec({JOB: addresses})
            tf.config.experimental_connect_to_cluster(spec)
            return
        except tf.errors.OpError as error:
            reason = error.message
    raise clusters.ClusterError(
        "All addresses must be those of processes that run `eh.serve_devices` with "
        f"this version of TensorFlow. Received: addresses={addresses}, and {reason}"
    )


def _speaks_grpc(address, timeout):
    """Whether something greets as HTTP/2 does; TensorFlow would wait for ever."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout) as peer:
            peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS)
            return peer.recv(len(_SETTINGS))[3:4] == _SETTINGS[3:4]
    except OSError:
        return False
