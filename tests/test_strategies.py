"""Which workers are found in the environment, and what is said where they are not."""

import json
import socket
import sys
import time
import types

import pytest

import ensemble_heads as eh
from ensemble_heads import clusters, strategies
from ensemble_heads.clusters import ClusterError

SLURM = {
    "SLURM_PROCID": "2",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "n[01-02]",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
}
CLUSTER = {"worker": ["a:1", "b:2"]}


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    for variables in clusters.ENVIRONMENTS.values():
        for name in variables:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("TPU_NAME", raising=False)
    monkeypatch.delenv("SLURMD_NODENAME", raising=False)
    monkeypatch.setattr(strategies, "_made", [])


def set_tf_config(monkeypatch, cluster, job="worker", index=0):
    task = {"type": job, "index": index}
    config = {"cluster": cluster, "task": task}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))


def free_port():
    with socket.socket() as one:
        one.bind(("", 0))
        return one.getsockname()[1]


def found():
    resolver = clusters.resolve(0.5)
    spec = resolver.cluster_spec().as_dict()
    return spec, resolver.task_type, resolver.task_id


# ---- Environments


def test_tf_config_comes_before_slurm(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    cluster = {"chief": ["c:1"], **CLUSTER}
    set_tf_config(monkeypatch, cluster, index=1)
    assert found() == (cluster, "worker", 1)


def test_slurm(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert found() == ({"worker": ["n01:8888", "n01:8889", "n02:8888"]}, "worker", 2)
    monkeypatch.setenv("SLURMD_NODENAME", "n02")
    assert found()[2] == 2
    monkeypatch.setenv("SLURMD_NODENAME", "n01")
    with pytest.raises(ClusterError, match="task 2, which is on n01 and not on n02"):
        found()


def test_slurm_variables_that_do_not_fit(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(ClusterError, match="Slurm's variables must fit"):
        found()
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    with pytest.raises(ClusterError, match="also SLURM_STEP_NODELIST must be set"):
        found()


class Kubernetes:
    """What of its client is asked; every question brings the next answer."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def list_pod_for_all_namespaces(self, label_selector):
        assert label_selector == "job-name=training"
        now = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        pods = [
            types.SimpleNamespace(
                metadata=types.SimpleNamespace(name=name),
                status=types.SimpleNamespace(phase=phase, host_ip=f"10.0.0.{name[-1]}"),
            )
            for name, phase in now.items()
        ]
        return types.SimpleNamespace(items=pods)


def test_kubernetes_waits_until_all_pods_run():
    running = {"pod-2": "Running", "pod-1": "Running"}
    client = Kubernetes({"pod-2": "Running"}, {**running, "pod-1": "Pending"}, running)
    resolver = clusters.pods(client, "job-name=training", "pod-2", 2, timeout=30)
    assert resolver.cluster_spec().as_dict() == {
        "worker": ["10.0.0.1:8470", "10.0.0.2:8470"]
    }
    assert (resolver.task_type, resolver.task_id) == ("worker", 1)


def test_pods_that_do_not_run():
    client = Kubernetes({"pod-1": "Running", "pod-2": "Pending"})
    with pytest.raises(ClusterError, match="2 pods must be running.*pod-1, pod-2, of"):
        clusters.pods(client, "job-name=training", "pod-1", 2, timeout=0.1)


def test_kubernetes_needs_all_its_variables(monkeypatch):
    monkeypatch.setenv("ENSEMBLE_HEADS_PODS", "job-name=training")
    with pytest.raises(ClusterError, match="HEADS_POD, ENSEMBLE_HEADS_WORKERS must"):
        found()


@pytest.mark.parametrize(
    "count, message",
    [("two", "HEADS_WORKERS=two"), ("2", "in a pod with .*, and no token")],
)
def test_kubernetes_only_in_a_pod_and_by_numbers(count, message, monkeypatch):
    class ConfigException(Exception):
        pass

    def load():
        raise ConfigException("no token")

    config = types.SimpleNamespace(
        ConfigException=ConfigException, load_incluster_config=load
    )
    package = types.SimpleNamespace(client=None, config=config)
    monkeypatch.setitem(sys.modules, "kubernetes", package)
    monkeypatch.setenv("ENSEMBLE_HEADS_PODS", "job-name=training")
    monkeypatch.setenv("ENSEMBLE_HEADS_POD", "pod-1")
    monkeypatch.setenv("ENSEMBLE_HEADS_WORKERS", count)
    with pytest.raises(ClusterError, match=message):
        found()


# ---- Errors


def test_no_environment_names_workers():
    with pytest.raises(ValueError, match="set TF_CONFIG, or .*Slurm .SLURM_PROCID, SL"):
        eh.strategy("multi_worker")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cluster": {"worker": ["a:1"]}}'])
def test_tf_config_of_another_form(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ClusterError, match="TF_CONFIG must be like"):
        eh.strategy("multi_worker")


@pytest.mark.parametrize(
    "cluster, job, index, message",
    [
        (CLUSTER, "worker", 2, "name a task of the cluster"),
        (CLUSTER, "chief", 0, "name a task of the cluster"),
        ({"worker": ["a:1", "a:1"]}, "worker", 0, "each once and as host:port"),
        ({"worker": ["a"]}, "worker", 0, "each once and as host:port"),
        ({"worker": ["a:1", "b:70000"]}, "worker", 0, "as host:port.*b:70000"),
        ({**CLUSTER, "ps": ["c:1"]}, "worker", 0, "must name workers, and at most one"),
        ({**CLUSTER, "chief": ["c:1", "d:1"]}, "worker", 0, "at most one chief"),
    ],
)
def test_clusters_that_cannot_train(cluster, job, index, message, monkeypatch):
    set_tf_config(monkeypatch, cluster, job, index)
    with pytest.raises(ClusterError, match=message):
        eh.strategy("multi_worker")


def test_addresses_that_do_not_answer_are_named_in_time(monkeypatch):
    silent = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    with socket.create_server(("127.0.0.1", 0)) as other:
        there = f"127.0.0.1:{other.getsockname()[1]}"
        own = f"127.0.0.1:{free_port()}"
        set_tf_config(monkeypatch, {"worker": [own, silent[0], there, silent[1]]})
        begin = time.monotonic()
        with pytest.raises(ValueError, match="within 1 seconds") as caught:
            eh.strategy("multi_worker", timeout=1)
        assert time.monotonic() - begin < 60
    message = str(caught.value)
    assert all(address in message for address in silent)
    assert there not in message and own not in message


def test_a_port_that_is_taken(monkeypatch):
    with socket.create_server(("", 0)) as other:
        own = f"127.0.0.1:{other.getsockname()[1]}"
        set_tf_config(monkeypatch, {"worker": [own, "127.0.0.1:1"]})
        with pytest.raises(ClusterError, match=f"this worker, {own}, must be free"):
            eh.strategy("multi_worker", timeout=1)


@pytest.mark.parametrize("tpu", [None, "local", "grpc://127.0.0.1:1"])
def test_no_tpu(tpu, monkeypatch):
    """The resolver's path goes as far as it can without the hardware."""
    if tpu is not None:
        monkeypatch.setenv("TPU_NAME", tpu)
    reason = {
        None: "provide a TPU Name",
        "local": "TPUs not found",
        "grpc://127.0.0.1:1": "nothing came from 127.0.0.1:1",
    }[tpu]
    rule = "`name` must be another strategy where no TPU can be reached.*set TPU_NAME"
    with pytest.raises(ValueError, match=f"(?s){rule}.*{reason}"):
        eh.strategy("tpu", timeout=0.5)


def test_one_device_is_its_own_chief():
    assert strategies.task(eh.strategy("default")) == (0, 1)
