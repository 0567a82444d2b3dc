"""The report: one page that holds everything and fetches nothing."""

import base64
import html.parser
import re
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


def test_what_does_not_apply_is_left_out(tmp_path):
    x, labels = small_models.classification_data(20)
    weighted = small_models.dense_model(2, ensembler=small_models.Weighting())
    page = read(eh.report(weighted, (x, labels), tmp_path / "a.html", verbose=0))
    assert len(page.images) == 7 and "Any-time evaluation" not in page.texts
    several = small_models.dense_model(2, "sigmoid")
    hot = np.random.randint(0, 2, [20, small_models.CLASSES])
    page = read(eh.report(several, (x, hot), tmp_path / "b.html", (x, hot), verbose=0))
    assert len(page.images) == 3 and "Specialists" in page.texts
    assert "Confusion" not in page.texts


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
