"""The comparison of sizes is right; the tables themselves: tests/zoo."""

import csv
import re

import pytest
from absl import app, flags
from absl.testing import flagsaver

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from recipes import model_sizes
from recipes.published_sizes import QUANTITIES, ROWS, Row
from zoo.frame_inputs import frame_inputs, pool_frames


@pytest.fixture
def built(monkeypatch):
    """Every name of the zoo gives a small dense layer, whose sizes are known."""

    def build(name):
        inputs = keras.Input((1000,))
        return keras.Model(inputs, keras.layers.Dense(100)(inputs), name=name)

    monkeypatch.setattr(zoo, "build", build)
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def run(capsys, rows, monkeypatch, **options):
    monkeypatch.setattr(model_sizes, "ROWS", rows)
    with flagsaver.flagsaver(**options):
        code = model_sizes.main(["model_sizes.py"])
    return code, capsys.readouterr().out


@pytest.mark.parametrize(
    "value, paper, shown",
    [
        (60_117_096, "60.1M", "60.1M"),
        (60_150_001, "60.1M", "60.2M"),
        (21_885_853_984, "21.9B", "21.9B"),
        (415_499_999, "415M", "415M"),
        (3_200_000, "3.20M", "3.20M"),
        (815_400, "815K", "815K"),
        (512, "512", "512"),
        (816_640, "~815K", "817K"),
        (0.06599, "7%", "7%"),
        (0.0044, "0.44%", "0.44%"),
    ],
)
def test_rounds_as_printed(value, paper, shown):
    assert model_sizes.printed_like(value, paper) == shown


def test_refuses_figures_it_cannot_read():
    with pytest.raises(
        ValueError, match="units K, M, B, % or none. Received: paper='1e6'"
    ):
        model_sizes.printed_like(1, "1e6")


def test_about_is_within_one_percent():
    for value, same in ((806_900, True), (823_100, True), (806_800, False)):
        assert model_sizes.prints_alike(value, "~815K") is same
    assert not model_sizes.prints_alike(816_640, "815K")


def test_share_of_parameters_saved(built, monkeypatch, capsys):
    """Layers of 6, 6 and 3 parameters: 24 of 30 with one shared, 18 with two."""

    def build(name, fork_at="shared"):
        inputs = keras.Input((2,))
        x = keras.layers.Dense(2, name="shared")(inputs)
        x = keras.layers.Dense(2, name="hidden")(x)
        single = keras.Model(inputs, keras.layers.Dense(1)(x), name="single")
        return eh.multi_head(single, fork_at, 2, name=name)

    monkeypatch.setattr(zoo, "build", build)
    right = Row("C, section 5", "tree", saved="20%", count="trainable")
    known = Row(
        *("C, section 5", "tree"),
        saved="41%",
        count="trainable",
        changes={"fork_at": "hidden"},
        reproduced=(),
        reason="nobody knows",
    )
    code, out = run(capsys, (right, known), monkeypatch)
    assert code == 0
    assert re.search(r"tree +saved +20% +20% +20.00% +reproduced", out)
    assert re.search(r"tree \(fork_at=hidden\) +saved +41% +40% +40.00% +known", out)
    assert "tree (fork_at=hidden), saved: nobody knows." in out


def test_verdicts_and_exit_code(built, capsys, monkeypatch, tmp_path):
    """A dense layer of 1000 x 100: 100,100 parameters, 200,100 FLOPs."""
    right = Row("A, Table 1", "right", "100.1K", "0.20M")
    wrong = Row("B, Table 2", "wrong", "100K", "0.3M")
    known = Row("B, Table 2", "known", None, "0.3M", reproduced=())
    path = tmp_path / "sizes.csv"
    code, out = run(capsys, (right, known), monkeypatch, csv=str(path))
    assert code == 0
    assert "2 of 2 figures claimed as reproduced print the same" in out
    assert re.search(r"right +flops +0.20M +0.20M +200,100 +reproduced", out)
    assert re.search(r"known +flops +0.3M +0.2M +200,100 +known gap", out)
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["ours"] for row in rows] == ["100100", "200100", "200100"]
    assert [row["verdict"] for row in rows] == ["reproduced"] * 2 + ["known gap"]
    code, out = run(capsys, (right, wrong, known), monkeypatch)
    assert code == 1
    assert "3 of 4 figures" in out and "MISSED" in out
    code, out = run(capsys, (right, wrong), monkeypatch, models=["right"])
    assert code == 0 and "wrong" not in out


def test_frames_are_counted_beside_what_is_printed(built, capsys, monkeypatch):
    """What 8 x 10 weights and a bias cost per frame is all that is left out."""

    def build(name):
        inputs, x, mask = frame_inputs(8)
        x = keras.layers.Dense(10)(x)
        x = keras.layers.Dense(5)(pool_frames(x, mask, "max"))
        return keras.Model(inputs, x, name=name)

    monkeypatch.setattr(zoo, "build", build)
    row = Row("A, Table 2", "of_frames", None, "0K", frames=(25, 300))
    cells, _ = model_sizes.measure(row)
    assert [cell.quantity for cell in cells] == [
        *("flops", "flops, 25 frames", "flops, 300 frames"),
    ]
    printed, some, many = (cell.ours for cell in cells)
    assert printed == 5 * (2 * 10 + 1) + 10  # the pooling compares its outputs
    assert some >= printed + 25 * 10 * (2 * 8 + 1)
    assert many - some >= 275 * 10 * (2 * 8 + 1)
    assert many / some == pytest.approx(300 / 25, rel=0.05)
    assert [cell.verdict for cell in cells[1:]] == ["left out there"] * 2
    code, out = run(capsys, (row,), monkeypatch)
    assert code == 0  # what nobody printed is not claimed
    assert "1 of 1 figures" in out


def test_figures_of_trainable_parameters(built, monkeypatch):
    """A dense layer of 1000 x 100 and a batch norm: 200 of its 400 are trained."""

    def build(name):
        inputs = keras.Input((1000,))
        x = keras.layers.Dense(100, use_bias=False)(inputs)
        return keras.Model(inputs, keras.layers.BatchNormalization()(x), name=name)

    monkeypatch.setattr(zoo, "build", build)
    for count, exact in (("trainable", 100_200), ("folded", 100_100)):
        cells, _ = model_sizes.measure(Row("A", "normed", "100.2K", count=count))
        assert [cell.ours for cell in cells] == [exact]
    (cell,), _ = model_sizes.measure(
        Row("A", "normed", "100.2K", reproduced=(), count="trainable")
    )
    assert cell.verdict == "same" and not cell.claimed


def test_unknown_model_and_argument(built, capsys, monkeypatch):
    with pytest.raises(app.UsageError, match="among resnet152, .*Received: vgg"):
        run(capsys, ROWS, monkeypatch, models=["vgg"])
    with pytest.raises(app.UsageError, match="left out with --all"):
        run(capsys, ROWS, monkeypatch, models=["dbof"], all=True)
    with pytest.raises(app.UsageError, match="Unknown arguments: --tabel"):
        model_sizes.main(["model_sizes.py", "--tabel"])


def test_every_figure_of_tables_1_to_3_is_claimed():
    """Of Table 3 there is a second reading of the widths, which gives other sizes."""
    tables = [row for row in ROWS if "EnsembleNet, Table" in row.source]
    names = {"resnet152", "se_resnet152", "dbof", "s3dg"}
    claimed = [row for row in tables if row.reproduced]
    assert {row.model for row in claimed} == names | {f"{n}_2heads" for n in names}
    assert all(row.reproduced == QUANTITIES for row in claimed)
    assert all(row.parameters and row.flops for row in tables)
    others = [row for row in tables if not row.reproduced]
    assert [row.model for row in others] == ["s3dg_2heads_two_thirds"]
    assert others[0].reason
    assert {row.model for row in ROWS} <= set(zoo.names())
