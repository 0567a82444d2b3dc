"""Rules about the sources as a whole: who imports whom, sizes, names, what docs say."""

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]

# What each folder may import of ours: arrows point down only.
BELOW = {
    "ensemble_heads": set(),
    "zoo": {"ensemble_heads"},
    "datasets": {"ensemble_heads"},
    "recipes": {"datasets", "zoo", "ensemble_heads"},
    "benchmarks": {"datasets", "zoo", "ensemble_heads"},
}
OURS = {*BELOW, "tests"}
FOLDERS = (*OURS, "docs", "requirements", ".ci", ".github")
KERAS_DOOR = "ensemble_heads/keras_api.py"
MAX_LINES = 400

PUT_CHECKOUT_FIRST = "sys.path.insert(0, str(Path(__file__).resolve().parents[1]))"

# Written so that no pattern matches its own source.
MACHINE_PATH = re.compile(
    r"(?<![\w./-])/(?:work|tmp|root|home|Users|opt|mnt)(?=[/\s`'\"])"
)
PACKAGE_HOST = re.compile(
    r"pypi[.]org|pythonhosted[.]|anaconda[.]org|npmjs[.]|debian[.]org"
    r"|index[-]url|find[-]links",
    flags=re.IGNORECASE,
)
NAMED_PATH = re.compile(
    rf"(?<![\w./*-])(?:{'|'.join(map(re.escape, sorted(FOLDERS)))})/[\w.*/-]*"
)
BARE_FILE = re.compile(r"`(\w+\.(?:py|md|toml|lock))`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def files(*folders, suffix=""):
    """Files under some folders, sorted, without what tools leave there."""
    return sorted(
        path
        for folder in folders
        for path in (CHECKOUT / folder).rglob(f"*{suffix}")
        if path.is_file() and "__pycache__" not in path.parts
    )


def name(path):
    return path.relative_to(CHECKOUT).as_posix()


def texts():
    """Every text of the project: sources, documents, set-up."""
    top = [path for path in CHECKOUT.iterdir() if path.is_file()]
    for path in [*top, *files(*FOLDERS)]:
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or an archive


def documents():
    return [CHECKOUT / "README.md", *files("docs", suffix=".md")]


def imported(tree):
    """(line, dotted name) of every import in a module, also of those in functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.lineno, f"{node.module}.{a.name}") for a in node.names)


def keras_uses(source):
    """Lines on which a source reaches Keras by itself."""
    tree = ast.parse(source)
    for line, module in imported(tree):
        parts = module.split(".")
        if parts[0] in ("keras", "tf_keras", "keras_core"):
            yield line
        elif parts[0] == "tensorflow" and "keras" in parts:
            yield line
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "keras":
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in ("tf", "tensorflow"):
                yield node.lineno


def missing_paths(text, folder):
    """Paths that a document in `folder` names and that are not in the checkout."""
    named = {match.rstrip(".-") for match in NAMED_PATH.findall(text)}
    absent = {path for path in named if not any(CHECKOUT.glob(path.rstrip("/")))}
    known = {path.name for path, _ in texts()}
    absent |= set(BARE_FILE.findall(text)) - known
    return absent | {
        link
        for link in LINK.findall(text)
        if "//" not in link and not (folder / link).exists()
    }


@pytest.mark.parametrize("folder", BELOW)
def test_imports_point_down(folder):
    upward = [
        f"{name(path)}:{line} imports {module}"
        for path in files(folder, suffix=".py")
        for line, module in imported(ast.parse(path.read_text(encoding="utf-8")))
        if module.split(".")[0] in OURS - BELOW[folder] - {folder}
    ]
    assert not upward


def test_one_module_reaches_keras():
    others = [
        f"{name(path)}:{line}"
        for path in files(*BELOW, suffix=".py")
        if name(path) != KERAS_DOOR
        for line in keras_uses(path.read_text(encoding="utf-8"))
    ]
    assert not others, "write `from ensemble_heads.keras_api import keras` instead"


@pytest.mark.parametrize(
    "source",
    [
        "import keras",
        "import keras.layers as layers",
        "from keras import ops",
        "from keras.layers import Dense",
        "from tensorflow import keras",
        "import tensorflow.keras.layers",
        "from tensorflow.keras.layers import Dense",
        "def f():\n    import keras",
        "x = tf.keras.layers.Dense(3)",
        "x = tf.compat.v1.keras.layers",
    ],
)
def test_every_way_to_reach_keras_is_seen(source):
    assert list(keras_uses(source))


def test_the_house_way_to_reach_keras_is_allowed():
    source = "from ensemble_heads.keras_api import keras\nx = keras.layers.Dense(3)"
    assert not list(keras_uses(source))


def test_files_stay_short():
    lengths = {
        name(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in files(*OURS, suffix=".py")
    }
    assert not {path: n for path, n in lengths.items() if n > MAX_LINES}


def test_no_file_is_named_for_nothing():
    """`utils.py` says nothing about what it holds, so everything ends up there."""
    vague = {"utils.py", "helpers.py", "util.py", "helper.py", "misc.py"}
    assert not [name(path) for path in files(*OURS, suffix=".py") if path.name in vague]


def test_every_module_says_what_it_is_for():
    bare = [
        name(path)
        for path in files(*OURS, suffix=".py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not bare


@pytest.mark.parametrize("path", documents(), ids=name)
def test_paths_named_in_documents_exist(path):
    assert not missing_paths(path.read_text(encoding="utf-8"), path.parent)


def test_missing_paths_are_found():
    text = "See `zoo/gone.py`, [this](docs/gone.md#x), `gone.py` and tests/conftest.py."
    expected = {"zoo/gone.py", "docs/gone.md", "gone.py"}
    assert missing_paths(text, CHECKOUT) == expected


def test_sources_name_only_files_that_exist():
    """A docstring that sends its reader to docs/decisions.md: it is there."""
    absent = {}
    for path in files(*OURS, suffix=".py"):
        if path == Path(__file__).resolve():
            continue  # names missing ones on purpose
        named = NAMED_PATH.findall(path.read_text(encoding="utf-8"))
        ends = {n.rstrip(".-") for n in named}
        whole = {n for n in ends if n.endswith((".py", ".md", ".csv"))}
        if gone := {n for n in whole if not any(CHECKOUT.glob(n))}:
            absent[name(path)] = gone
    assert not absent


def test_nothing_names_a_machine_or_a_package_host():
    found = [
        f"{name(path)}:{number} {match.group()}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        for match in [MACHINE_PATH.search(line) or PACKAGE_HOST.search(line)]
        if match
    ]
    assert not found


@pytest.mark.parametrize("path", files("recipes", "benchmarks", suffix=".py"), ids=name)
def test_scripts_put_the_checkout_first(path):
    """See recipes/__init__.py for why; packages and shared plumbing need it not."""
    source = path.read_text(encoding="utf-8")
    if "__main__" not in source:
        pytest.skip("not a script")
    first = min(
        (line for line, m in imported(ast.parse(source)) if m.split(".")[0] in OURS),
        default=len(source),
    )
    before = "\n".join(source.splitlines()[: first - 1])
    assert PUT_CHECKOUT_FIRST in before, f"add {PUT_CHECKOUT_FIRST}"
