"""The report: one page that holds everything and fetches nothing."""

import base64
import html.parser
import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import ensemble_heads as eh
from ensemble_heads import analyses, report_page
from tests import small_models


class Page(html.parser.HTMLParser):
    """Titles, cells, images and all else of a page that names an address."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.images, self.addresses, self.tags, self._open = (
            [],
            [],
            [],
            [],
            [],
        )
        self.feed(text)
        self.close()
        assert not self._open, "tags left open"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        if tag == "img":
            self.images.append(attributes)
        self.addresses += [attributes[k] for k in ("src", "href") if k in attributes]
        if tag not in ("meta", "link", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


def read(path):
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert all(address.startswith("data:") for address in page.addresses)
    assert "script" not in page.tags and "http" not in re.sub("http-equiv", "", text)
    for image in page.images:
        kind, data = image["src"].split(",")
        assert kind == "data:image/svg+xml;base64" and image["alt"]
        assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")
    return page


def titles(page):
    h2 = [i for i, tag in enumerate(page.tags) if tag == "h2"]
    return len(h2)


def test_all_analyses_on_one_page(tmp_path):
    model = small_models.dense_model(3)
    data = small_models.classification_data(30)
    path = eh.report(
        model,
        data,
        tmp_path / "a.html",
        validation=small_models.classification_data(20),
        class_names=["<b>", "&", "c", "d"],
        title="<i>Digits & co",
        perturbations=1,
        verbose=0,
    )
    page = read(path)
    said = analyses.collect(model, data, verbose=0)
    found = analyses.accuracies(said)
    losses = analyses.ambiguity(said)
    for number in (
        "<i>Digits & co",
        "30",
        f"{found.ensemble:.2%}",
        f"{found.oracle:.2%}",
        f"{losses.ambiguity:.4f}",
        f"{analyses.calibration(said).error:.4f}",
        f"{analyses.output_entropies(said).std:.4f}",
        f"{eh.profile(model).flops:,}",
        "Specialists",
        "Any-time evaluation",
        "Width of the optimum",
    ):
        assert number in page.texts
    assert len(page.images) == 11 and titles(page) == 12
    assert "Left out" not in page.texts


def left_out(page):
    """{titles: reason} of the last section."""
    cells = [text for text in page.texts[page.texts.index("Left out") :] if text]
    return dict(zip(cells[2:-1:2], cells[3::2]))


def test_what_does_not_apply_is_left_out_and_named(tmp_path):
    x, labels = small_models.classification_data(20)
    weighted = small_models.dense_model(2, ensembler=small_models.Weighting())
    data = x, labels
    page = read(eh.report(weighted, data, tmp_path / "a.html", data, verbose=0))
    assert len(page.images) == 7
    assert left_out(page) == {
        "Heads dropped at random, Any-time evaluation, Specialists": (
            "needs an ensembler without weights, whose heads can be taken apart"
        ),
        "Width of the optimum": "not asked for by `perturbations`",
    }
    several = small_models.dense_model(2, "sigmoid")
    hot = np.random.randint(0, 2, [20, small_models.CLASSES])
    path = tmp_path / "b.html"
    page = read(
        eh.report(several, (x, hot), path, (x, hot), perturbations=1, verbose=0)
    )
    assert len(page.images) == 4 and "Specialists" in page.texts
    assert "nan%" not in " ".join(page.texts)
    assert left_out(page) == {
        "Accuracy and dominance, Disagreement, Heads that win a class, Confusion, "
        "Calibration, Heads dropped at random, Any-time evaluation": (
            "defined for one class per example, not for several labels"
        )
    }
    plain = small_models.dense_model(2)
    page = read(eh.report(plain, data, tmp_path / "c.html", verbose=0))
    reason = "needs data to choose on: `validation`"
    assert left_out(page)["Specialists"] == reason


def test_names_of_operations_without_a_count(tmp_path):
    page = read(
        eh.report(
            small_models.dense_model(2),
            small_models.classification_data(9),
            tmp_path / "a" / "b.html",  # in a folder that is made
            verbose=0,
        )
    )
    assert any("what has no count: " in t and "Relu" in t for t in page.texts)


def test_bad_arguments_are_found_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(analyses, "collect", None)
    model, data = small_models.dense_model(2), small_models.classification_data(9)
    with pytest.raises(IsADirectoryError, match="`path` must be the file"):
        eh.report(model, data, tmp_path)
    with pytest.raises(ValueError, match="`path` must be a local or mounted path"):
        eh.report(model, data, "gs://bucket/report.html")
    for perturbations in (-1, 0.5):
        with pytest.raises(ValueError, match="`perturbations` must be an integer"):
            eh.report(model, data, tmp_path / "a.html", perturbations=perturbations)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="Plots need matplotlib"):
        eh.report(model, data, tmp_path / "a.html")


def test_names_of_other_classes_are_refused(tmp_path):
    model = small_models.dense_model(2)
    data = small_models.classification_data(9)
    with pytest.raises(ValueError, match="`class_names` must have 4 entries"):
        eh.report(model, data, tmp_path / "a.html", class_names=["a"], verbose=0)
    assert not list(tmp_path.iterdir())


def test_texts_are_escaped():
    rows = [["<script>", "a&b"]]
    text = report_page.render("<t>", [report_page.Section("<s>", "<p>", rows)], "<f>")
    page = Page(text)
    assert "script" not in page.tags
    for piece in ("<script>", "a&b", "<t>", "<s>", "<p>", "<f>"):
        assert piece in page.texts
