"""Heads on other processes on loopback: as on one device, with little on the wire."""

import json
import socket

import pytest

from tests import placed_training, worker_processes

pytestmark = pytest.mark.slow

SERVER = """
import json, os
import ensemble_heads as eh
config = json.loads(os.environ["TF_CONFIG"])
address = config["cluster"]["worker"][config["task"]["index"]]
eh.serve_devices(int(address.rpartition(":")[2]))
"""

CHIEF = """
import json, os
import ensemble_heads as eh
addresses = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"][1:]
there = eh.remote_devices(addresses, timeout=120)
assert eh.remote_devices(addresses) == there
try:
    eh.remote_devices(addresses[:1])
except ValueError as error:
    refused = str(error)
"""

COMPARE = """
result = compare(normed, places, optimizer=lambda: keras.optimizers.Adam(
    0.05, global_clipnorm=0.05))[1]
result |= {"there": there, "refused": refused,
           "counted": [counted(hidden) for hidden in (8, 100)]}
print()
print(json.dumps(result), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def result():
    sources = [CHIEF + placed_training.SOURCE + COMPARE, SERVER, SERVER]
    with worker_processes.started(sources) as processes:
        code, printed, errors = worker_processes.ended(processes[:1])[0]
        assert code == 0, errors[-4000:]
        return json.loads(printed.splitlines()[-1])


def test_heads_on_other_processes_equal_one_device(result):
    placed_training.assert_equal(result)
    assert len([home for home in result["homes"] if "/job:heads/" in home]) == 2


def test_bytes_on_the_wire_are_those_of_features_and_predictions(result):
    small, large = result["counted"]
    for one in (small, large):
        assert one["unchanged"]
        placed_training.assert_hand_count(one, "/device:CPU:0", result["there"])
    for step in ("training", "inference"):
        assert small[step]["bytes"] == large[step]["bytes"]


def test_a_process_has_one_set_of_others(result):
    assert "must be those that this process is connected to" in result["refused"]


REFUSED = """
import sys, os
import ensemble_heads as eh
try:
    eh.remote_devices(sys.argv[1:], timeout=3)
except ValueError as error:
    print(error, flush=True)
os._exit(0)
"""


@pytest.mark.line("2.15")
def test_what_does_not_answer_is_named(run_python):
    port = worker_processes.free_ports(1)[0]
    printed = run_python(REFUSED, f"127.0.0.1:{port}", timeout=60)
    assert f"within 3 seconds, but nothing came from 127.0.0.1:{port}" in printed


def test_what_answers_and_serves_no_devices(run_python):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        printed = run_python(REFUSED, address, timeout=100)
    assert "must be those of processes that run `eh.serve_devices`" in printed


@pytest.mark.line("2.15")
@pytest.mark.parametrize("address", ["host", ""])
def test_addresses_in_another_form(address, run_python):
    assert "must be a list of host:port" in run_python(REFUSED, address, timeout=100)


@pytest.mark.line("2.15")
def test_a_port_that_is_taken(run_python):
    source = """
import sys
import ensemble_heads as eh
try:
    eh.serve_devices(int(sys.argv[1]))
except ValueError as error:
    print(error)
"""
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "`port` must be free" in run_python(source, port, timeout=100)
