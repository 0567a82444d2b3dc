"""The wheel: what it holds, what it requires on every Python, and what is pinned."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = ("ensemble_heads", "zoo")
NOT_COPIED = shutil.ignore_patterns(
    ".venv*", ".git", "__pycache__", "*.egg-info", "build", "dist", ".*_cache"
)

ALWAYS = {"absl-py": "", "numpy": "", "pytest": "", "rich": ""}
OLD_LINE = ALWAYS | {
    "tensorflow": "==2.15.1",
    "tensorflow-addons": "==0.23.0",
    "tensorflow-io": "==0.36.0",
    "tensorflow-metadata": "<1.18",
    "keras-cv": "==0.9.0",
}
NEW_LINE = ALWAYS | {"tensorflow": "==2.21.0", "keras-cv": "==0.9.0"}
REQUIRED = {"3.10": OLD_LINE, "3.11": OLD_LINE, "3.12": NEW_LINE, "3.13": NEW_LINE}
LOCKS = {"3.10": "tf2.15", "3.11": "tf2.15", "3.12": "tf2.21", "3.13": "tf2.21"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built offline from a copy: building in place leaves files behind."""
    folder = tmp_path_factory.mktemp("packaging")
    copy = folder / "checkout"
    shutil.copytree(CHECKOUT, copy, ignore=NOT_COPIED)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder / "dist"), str(copy)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr[-4000:]
    (path,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel):
    (path,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(path).decode())


def required(metadata, python, extra=""):
    """{canonical name: version specifier} of what one Python installs."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "extra": extra,
    }
    found = {}
    for line in metadata.get_all("Requires-Dist"):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            found[canonicalize_name(requirement.name)] = str(requirement.specifier)
    return found


def locked(line):
    """{canonical name: (version, marker)} of one lock file; every pin is exact."""
    pins = {}
    text = (CHECKOUT / "requirements" / f"{line}.lock").read_text(encoding="utf-8")
    for pin in text.splitlines():
        if pin and not pin.startswith("#"):
            requirement = Requirement(pin)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==" and "*" not in specifier.version, pin
            assert canonicalize_name(requirement.name) not in pins, f"{pin} twice"
            name = canonicalize_name(requirement.name)
            pins[name] = specifier.version, requirement.marker
    return pins


def test_wheel_holds_the_library_and_the_zoo_and_nothing_else(wheel):
    sources = {
        path.relative_to(CHECKOUT).as_posix()
        for package in PACKAGES
        for path in (CHECKOUT / package).rglob("*.py")
    }
    held = {n for n in wheel.namelist() if not n.endswith("/")}
    about = {n for n in held if n.split("/")[0].endswith(".dist-info")}
    assert held - about == sources


def test_every_source_folder_is_a_package():
    """Without `__init__.py` a folder works in a checkout, but is not in the wheel."""
    for package in PACKAGES:
        for path in (CHECKOUT / package).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path


@pytest.mark.parametrize("python", REQUIRED)
def test_requirements_of_every_python(metadata, python):
    assert required(metadata, python) == REQUIRED[python]


def test_extras(metadata):
    extra_names = {
        extra: set(required(metadata, "3.11", extra)) - set(OLD_LINE)
        for extra in metadata.get_all("Provides-Extra")
    }
    wanted = {"av", "matplotlib", "pillow", "scikit-learn", "tensorboard"}
    assert extra_names["recipes"] == wanted
    assert {"build", "pre-commit", "pytest-xdist", "ruff"} <= extra_names["dev"]


def test_supported_pythons(metadata):
    pythons = SpecifierSet(metadata["Requires-Python"])
    assert {f"3.{n}" for n in range(16) if f"3.{n}.5" in pythons} == set(REQUIRED)


def test_name_and_version(metadata):
    assert metadata["Name"] == "ensemble-heads"
    module = ast.parse((CHECKOUT / "ensemble_heads/__init__.py").read_text())
    (version,) = (
        node.value.value
        for node in module.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__version__"
    )
    assert metadata["Version"] == version


@pytest.mark.parametrize("line", sorted(set(LOCKS.values())))
def test_lock_pins_exactly_and_names_no_place(line):
    assert locked(line)
    text = (CHECKOUT / "requirements" / f"{line}.lock").read_text(encoding="utf-8")
    assert not re.search(r"^\s*-|--|://|@", text, flags=re.MULTILINE)


@pytest.mark.parametrize("python", REQUIRED)
def test_lock_satisfies_the_requirements(metadata, python):
    pins = locked(LOCKS[python])
    for extra in ("", "recipes", "dev"):
        for name, specifier in required(metadata, python, extra).items():
            assert pins[name][0] in SpecifierSet(specifier), name


def test_lock_covers_all_that_is_installed():
    """Follows the requirements from the project's own down to the last."""
    python = "{}.{}".format(*sys.version_info)
    if Path(sys.prefix) != CHECKOUT / f".venv-{python}":
        pytest.skip("this is not the environment that make sets up from the lock")
    pins = locked(LOCKS[python])
    waiting, seen = [("ensemble-heads", ("", "recipes", "dev"))], set()
    while waiting:
        name, extras = waiting.pop()
        for line in importlib.metadata.requires(name) or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": e}) for e in extras):
                continue
            below = (
                canonicalize_name(requirement.name),
                ("", *sorted(requirement.extras)),
            )
            if below not in seen:
                seen.add(below)
                waiting.append(below)
    unpinned = {name for name, _ in seen} - set(pins)
    assert len(seen) > 50 and not unpinned
    wrong = {
        name: importlib.metadata.version(name)
        for name, _ in seen
        if importlib.metadata.version(name) != pins[name][0]
    }
    assert not wrong, "installed otherwise than pinned: make clean setup"
