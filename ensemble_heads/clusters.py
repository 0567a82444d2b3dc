"""Which hosts train together, and whether they are there."""

import collections
import contextlib
import json
import os
import socket
import time

import tensorflow as tf

resolvers = tf.distribute.cluster_resolver

# The environments that can name the workers, in the order in which they are asked.
ENVIRONMENTS = {
    "TF_CONFIG": ("TF_CONFIG",),
    "Kubernetes": (
        "ENSEMBLE_HEADS_PODS",
        "ENSEMBLE_HEADS_POD",
        "ENSEMBLE_HEADS_WORKERS",
    ),
    "Slurm": (
        "SLURM_PROCID",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_STEP_NODELIST",
        "SLURM_STEP_TASKS_PER_NODE",
    ),
}
JOBS = ("chief", "worker")
_TRY_EVERY = 0.2  # seconds


class ClusterError(ValueError):
    """Workers or a TPU that cannot be reached; the message says what to do."""


def resolve(timeout):
    """The cluster that the environment names, by TensorFlow's resolvers.

    TF_CONFIG comes first, then Kubernetes, then Slurm: the first whose first variable
    is set. A worker uses all GPUs that it sees.

    Args:
        timeout: float, seconds that all pods of Kubernetes have to be running.

    Returns:
        A `tf.distribute.cluster_resolver.ClusterResolver` whose tasks are a "worker"
        each, with at most one "chief".

    Raises:
        ClusterError: no environment names the workers, or one does it wrongly.
    """
    makers = {"TF_CONFIG": _tf_config, "Kubernetes": _kubernetes, "Slurm": _slurm}
    for name, variables in ENVIRONMENTS.items():
        if variables[0] not in os.environ:
            continue
        missing = [one for one in variables if one not in os.environ]
        if missing:
            raise ClusterError(
                f"{variables[0]} is set, so the workers are those of {name}; also "
                f"{', '.join(missing)} must be set"
            )
        resolver = makers[name](timeout)
        _check(name, resolver)
        return resolver
    ways = [
        f"{name} ({', '.join(v)})" for name, v in ENVIRONMENTS.items() if v != (name,)
    ]
    raise ClusterError(
        "`name` must be another strategy where the environment names no workers: set "
        f"TF_CONFIG, or start by {' or '.join(ways)}. Received: name='multi_worker'"
    )


def await_workers(resolver, timeout):
    """Returns once the addresses of all other workers answer.

    TensorFlow itself would wait long, and not say for whom. Meanwhile this
    worker listens at its own address, since until all are there none has a server.

    Args:
        resolver: `ClusterResolver`.
        timeout: float, seconds.

    Raises:
        ClusterError: some do not answer in time (they are named), or the port of this
            worker is taken.
    """
    own = resolver.cluster_spec().task_address(resolver.task_type, resolver.task_id)
    others = [address for address in addresses(resolver) if address != own]
    with _listening(own):
        await_answers(others, timeout)


def await_answers(wanted, timeout):
    """Returns once all addresses answer; raises `ClusterError` as `await_workers`."""
    end, left = time.monotonic() + timeout, wanted
    while left:
        left = [address for address in left if not _answers(address)]
        if left and time.monotonic() > end:
            raise ClusterError(
                f"All addresses must answer within {timeout:g} seconds, but nothing "
                f"came from {', '.join(left)}. Start what is missing, and see whether "
                "the addresses are right and no firewall is between"
            )
        time.sleep(_TRY_EVERY if left else 0)


def addresses(resolver):
    """List of the addresses of all tasks, as "host:port"."""
    tasks = resolver.cluster_spec().as_dict()
    return [address for job in sorted(tasks) for address in tasks[job]]


def _tf_config(timeout):
    text = os.environ["TF_CONFIG"]
    form = (
        '{"cluster": {"worker": ["host:port", …]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        config = json.loads(text)
        task = config["task"]
        tf.train.ClusterSpec(config["cluster"]).task_address(
            task["type"], int(task["index"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(
            f"TF_CONFIG must be like {form}, and name a task of the cluster. "
            f"Received: TF_CONFIG={text}"
        ) from error
    return resolvers.TFConfigClusterResolver()


def _slurm(timeout):
    try:
        # Slurm itself says by --gpus-per-task which GPUs a task sees; the resolver's
        # own numbers only have to fit, and it cannot do without GPUs.
        tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
        slurm = resolvers.SlurmClusterResolver(
            gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
        )
        spec = slurm.cluster_spec()
        host = spec.task_address("worker", slurm.task_id).rpartition(":")[0]
    except (ValueError, RuntimeError, TypeError) as error:
        raise ClusterError(
            f"Slurm's variables must fit one another: {error}"
        ) from error
    node = os.environ.get("SLURMD_NODENAME", host)
    if node != host:
        # It sorts n10 before n9, and takes tasks to fill one host after the other.
        raise ClusterError(
            "TensorFlow's resolver needs hosts whose names sort as Slurm counts them, "
            "and --distribution=block; otherwise set TF_CONFIG. Received: task "
            f"{slurm.task_id}, which is on {node} and not on {host}"
        )
    return _simple(spec, slurm.task_id)


def _kubernetes(timeout):
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise ClusterError(
            "The package `kubernetes` must be installed where ENSEMBLE_HEADS_PODS "
            "names the workers: pip install kubernetes"
        ) from error
    selector, own, count = map(os.environ.get, ENVIRONMENTS["Kubernetes"])
    if not count.isdecimal():
        raise ClusterError(
            "ENSEMBLE_HEADS_WORKERS must be the number of pods. "
            f"Received: ENSEMBLE_HEADS_WORKERS={count}"
        )
    try:
        config.load_incluster_config()
    except config.ConfigException as error:
        raise ClusterError(
            "ENSEMBLE_HEADS_PODS must be set in a pod with a service account only. "
            f"Received: ENSEMBLE_HEADS_PODS={selector}, and {error}"
        ) from error
    return pods(client.CoreV1Api(), selector, own, int(count), timeout)


def pods(client, selector, own, count, timeout):
    """The resolver for the pods that a label selects, once all are running.

    Args:
        client: `kubernetes.client.CoreV1Api`.
        selector: str, such as "job-name=training".
        own: str, name of this pod.
        count: int, number of pods.
        timeout: float, seconds.

    Raises:
        ClusterError: the pods are not so many, or not all running, or not this one.
    """
    resolver = resolvers.KubernetesClusterResolver(
        {"worker": [selector]}, override_client=client
    )
    end = time.monotonic() + timeout
    while True:
        found = client.list_pod_for_all_namespaces(label_selector=selector).items
        names = sorted(pod.metadata.name for pod in found)
        running = [pod.metadata.name for pod in found if pod.status.phase == "Running"]
        if len(running) == len(names) == count and own in names:
            return _simple(resolver.cluster_spec(), names.index(own))
        if time.monotonic() > end:
            raise ClusterError(
                f"{count} pods must be running of the label {selector}, {own} among "
                f"them, within {timeout:g} seconds. Received: {', '.join(names)}, of "
                f"which {', '.join(running) or 'none'} run"
            )
        time.sleep(_TRY_EVERY)


def _simple(spec, task):
    gpus = len(tf.config.get_visible_devices("GPU"))
    return resolvers.SimpleClusterResolver(
        spec,
        task_type="worker",
        task_id=task,
        rpc_layer="grpc",
        num_accelerators={"GPU": gpus},
    )


def _check(name, resolver):
    tasks = resolver.cluster_spec().as_dict()
    everyone = [address for job in tasks.values() for address in job]
    twice = [one for one, n in collections.Counter(everyone).items() if n > 1]
    wrong = [job for job in tasks if job not in JOBS]
    without = [one for one in everyone if not _has_port(one)]
    if wrong or twice or without or len(tasks.get("chief", ())) > 1:
        raise ClusterError(
            f"{name} must name workers, and at most one chief, each once and as "
            f"host:port. Received: {json.dumps(tasks)}"
        )


def _has_port(address):
    host, _, port = address.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 1 << 16


@contextlib.contextmanager
def _listening(address):
    port = int(address.rpartition(":")[2])
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            own.bind(("", port))
        except OSError as error:
            raise ClusterError(
                f"The port of this worker, {address}, must be free ({error.strerror}): "
                "does an earlier worker still run there?"
            ) from error
        own.listen(128)
        yield


def _answers(address):
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2):
            return True
    except (OSError, UnicodeError):  # the latter of a name that no host can have
        return False
