"""The Makefile and `.ci/run`, with stand-ins for the interpreters and for make."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
TOOLS = ("bash", "dirname", "grep", "ls", "mktemp", "rm", "tail", "tee", "timeout")

pytestmark = pytest.mark.skipif(
    not (shutil.which("make") and shutil.which("bash")), reason="needs make and bash"
)


def script(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def make(*arguments):
    """Runs make as from a shell, even where these tests were started by a make."""
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    return subprocess.run(
        ["make", *arguments],
        env={key: value for key, value in os.environ.items() if key not in outer},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("python", "line"),
    [("3.10", "2.15"), ("3.11", "2.15"), ("3.12", "2.21"), ("3.13", "2.21")],
)
def test_the_interpreter_chooses_the_lock(tmp_path, python, line):
    interpreter = script(tmp_path / "python", f"echo {python}")
    plan = make("--dry-run", "--always-make", "setup", f"PYTHON={interpreter}").stdout
    assert f"{interpreter} -m venv --clear .venv-{python}" in plan
    assert set(re.findall(r"requirements/\S+", plan)) == {f"requirements/tf{line}.lock"}


@pytest.mark.parametrize("python", ["2.7", "3.9", "3.14"])
@pytest.mark.parametrize("target", ["demo", "test"])
def test_other_pythons_are_refused(tmp_path, target, python):
    interpreter = script(tmp_path / "python", f"echo {python}")
    ended = make(target, f"PYTHON={interpreter}")
    assert ended.returncode != 0
    assert "needs Python 3.10, 3.11, 3.12 or 3.13" in ended.stderr
    assert f"is Python {python}" in ended.stderr


def test_an_interpreter_that_does_not_run_is_refused():
    ended = make("test", "PYTHON=no-such-python")
    assert ended.returncode != 0
    assert "PYTHON=no-such-python does not run" in ended.stderr


def test_help_names_every_target():
    phony = re.search(r"^\.PHONY: (.*)$", (CHECKOUT / "Makefile").read_text(), re.M)
    shown = make().stdout
    for target in set(phony.group(1).split()) - {"help"}:
        assert f"make {target} " in shown


@pytest.fixture
def ci(tmp_path):
    """Runs `.ci/run` where only the given Pythons exist; make prints their name."""
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (tmp_path / "bin" / tool).symlink_to(found)

    def run(*pythons, failing=()):
        for python in pythons:
            answer = '[ "$1" = --version ] && echo "Python {0}" || exit 0'
            script(tmp_path / "bin" / f"python{python}", answer.format(python))
        cases = [f"*python{p}) echo '= 1 failed in 2.00s ='; exit 2;;" for p in failing]
        cases.append("*) echo '= 3 passed in 1.00s (0:00:01) ='; exit 0;;")
        script(tmp_path / "bin" / "make", f'case "$2" in {" ".join(cases)} esac')
        return subprocess.run(
            [CHECKOUT / ".ci/run"],
            env={"PATH": str(tmp_path / "bin"), "TMPDIR": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


def last_lines(ended):
    return ended.stdout.strip().split("\n\n")[-1].splitlines()


def test_ci_runs_both_lines_and_ends_with_their_summaries(ci):
    ended = ci("3.10", "3.11", "3.12", "3.13")
    assert ended.returncode == 0
    assert last_lines(ended) == [
        "TensorFlow 2.15 with Python 3.11, make test exited with 0:",
        "= 3 passed in 1.00s (0:00:01) =",
        "TensorFlow 2.21 with Python 3.12, make test exited with 0:",
        "= 3 passed in 1.00s (0:00:01) =",
    ]


def test_ci_falls_back_to_the_other_python_of_a_line(ci):
    ended = ci("3.10", "3.13")
    assert ended.returncode == 0
    assert "with Python 3.10," in ended.stdout
    assert "with Python 3.13," in ended.stdout


def test_ci_fails_where_a_line_has_no_interpreter_but_runs_the_other(ci):
    ended = ci("3.12")
    assert ended.returncode == 1
    assert last_lines(ended) == [
        "TensorFlow 2.15: NOT TESTED, found no Python 3.11 or 3.10.",
        "TensorFlow 2.21 with Python 3.12, make test exited with 0:",
        "= 3 passed in 1.00s (0:00:01) =",
    ]


def test_ci_fails_with_a_failing_line_but_runs_the_other(ci):
    ended = ci("3.11", "3.12", failing=["3.11"])
    assert ended.returncode == 1
    assert last_lines(ended) == [
        "TensorFlow 2.15 with Python 3.11, make test exited with 2:",
        "= 1 failed in 2.00s =",
        "TensorFlow 2.21 with Python 3.12, make test exited with 0:",
        "= 3 passed in 1.00s (0:00:01) =",
    ]
