"""The page: well-formed, of itself alone, escaped, and with what the run's folder holds."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from ldmlab.apps.config.compose import compose
from ldmlab.apps.report.changes import changes, experiment_of
from ldmlab.apps.report.elements import Markup, element
from ldmlab.apps.report.run_report import write_report
from ldmlab.apps.runs.folder import RunFolder
from ldmlab.core.errors import UserError
from ldmlab.core.image_grid import picture_grid, save_picture


class _Page(HTMLParser):
    """Checks that tags are balanced, and keeps what a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(path: Path) -> _Page:
    text = path.read_text(encoding="utf-8")
    assert "http" not in text
    assert "url(" not in text
    page = _Page(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    return page


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run that has only begun."""
    run = RunFolder.create(tmp_path, "quickstart", "diffusion", "a")
    run.write_config(compose(["stages.diffusion.lr=0.1", "sampler=ddim"]))
    return run


def test_elements_escape_all_but_markup() -> None:
    made = element("p", "<b>&", element("i", "x"), Markup("<hr>"), class_='"a"', aria_label="<")
    assert made == ('<p class="&quot;a&quot;" aria-label="&lt;">&lt;b&gt;&amp;<i>x</i><hr></p>')


def test_page_of_a_run_that_has_only_begun_says_what_is_missing(folder: RunFolder) -> None:
    page = _read(write_report(folder))
    for word in (
        "no checkpoint yet",
        "no data.json",
        "no card",
        "Nothing was logged",
        "No picture",
    ):
        assert word in page.text
    # Learning rate, and two of the schedule.
    assert page.tags.count("svg") == 3


def test_page_holds_what_the_run_has(folder: RunFolder) -> None:
    folder.write_data({"samples": 5, "classes": ["<script>alert(1)</script>", "b&b"], "files": "x"})
    folder.metrics.write_text("step,train/loss,val/loss\n9,1.0,\n19,0.5,nan\n")
    (folder.path / "broken_files.txt").write_text("<img src=x>.png\n")
    metric = {"value": 0.25, "interval": [0.125, 0.5], "floor": 0.0625, "warning": "<few>"}
    folder.write_card({"metrics": {"fid": metric}, "step": 7})
    for step in (200, 1000, 400):
        picture = picture_grid(torch.zeros(1, 3, 8, 8))
        save_picture(picture, folder.samples / f"samples-{step:06d}.png")
    (folder.samples / "samples-000600.png").write_bytes(b"no picture")
    page = _read(write_report(folder))
    assert "<script>alert(1)</script>" in page.text
    assert "1 broken files were replaced by others: <img src=x>.png" in page.text
    for cell in ("0.25", "0.125 to 0.5", "0.0625", "fid: <few>", "val/loss", "b&b"):
        assert cell in page.text
    assert "samples-000600.png is no PNG" in page.text
    assert len(page.sources) == 3
    assert page.text.index("samples at step 400") < page.text.index("samples at step 1,000")


def test_damaged_parts_are_told_on_the_page(folder: RunFolder) -> None:
    (folder.checkpoints / "last.ckpt").write_bytes(b"cut short")
    folder.card.write_text("{")
    folder.metrics.write_text("step,a\nx,y\n")
    folder.data.write_text("[]")
    folder.environment.write_text("{")
    page = _read(write_report(folder))
    files = (folder.card, folder.metrics, folder.data, folder.environment)
    for part in (folder.checkpoints / "last.ckpt", *files):
        assert str(part) in page.text


def test_changes_are_exactly_the_changed_keys() -> None:
    cfg = compose(["experiment=celebahq", "stages.diffusion.lr=0.5", "data.root=faces"])
    # Both splits refer to the root, and are no changes of their own.
    found = {change.key: change.value for change in changes(cfg, "celebahq")}
    assert found == {"stages.diffusion.lr": "0.5", "data.root": "faces"}
    assert changes(compose(["experiment=imagenet"]), "imagenet") == []
    removed = changes(compose(["guidance=none"]), "quickstart")
    assert ("guidance.scale", "3.0", "–") in removed


def test_experiment_is_that_of_the_name_unless_another_is_named() -> None:
    assert experiment_of(compose(["experiment=celebahq"])) == "celebahq"
    assert experiment_of(compose(["experiment=celebahq", "name=mine"])) == "quickstart"
    assert experiment_of(compose(["name=mine"]), "laion") == "laion"
    with pytest.raises(UserError, match=r"against=lion is no experiment.*laion"):
        experiment_of(compose([]), "lion")


def test_class_names_of_many_classes_are_folded(folder: RunFolder) -> None:
    folder.write_data({"samples": 5, "classes": [f"n{k}" for k in range(1000)]})
    page = _read(write_report(folder))
    assert "1,000 class names" in page.text
    assert "n999" in page.text
