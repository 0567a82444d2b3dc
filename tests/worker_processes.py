"""Starts Python programs that train together on loopback, and ends them in any case."""

import contextlib
import json
import os
import socket
import subprocess
import sys

from tests.conftest import CHECKOUT

TIMEOUT = 300  # seconds; nothing here takes that long unless it hangs


@contextlib.contextmanager
def started(sources, *arguments, temporary=None):
    """List of `subprocess.Popen`, a worker for each source; none is left behind.

    Args:
        sources: list of str, Python programs.
        *arguments: what all of them find in `sys.argv`.
        temporary: `Path`, where each gets a folder for temporary files, by its number.
    """
    ports = free_ports(len(sources))
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    processes = []
    try:
        for number, source in enumerate(sources):
            task = {"type": "worker", "index": number}
            config = json.dumps({"cluster": cluster, "task": task})
            own = {"TF_CONFIG": config, "PYTHONPATH": str(CHECKOUT)}
            if temporary is not None:
                own["TMPDIR"] = str(temporary / str(number))
                os.makedirs(own["TMPDIR"], exist_ok=True)
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", source, *map(str, arguments)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=CHECKOUT,
                    env={**os.environ, **own},
                )
            )
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                pipe.close()


def ended(processes):
    """List of (exit code, what was printed, what was printed as errors)."""
    results = []
    for process in processes:
        printed, errors = process.communicate(timeout=TIMEOUT)
        results.append((process.returncode, printed, errors))
    return results


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
