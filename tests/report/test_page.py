"""The page as a whole: self-contained, escaped, repeatable, accessible, written atomically."""

import base64
import datetime
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import harp.report as report
from harp.report import write_report

DATE = datetime.date(2026, 3, 1)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}</style>&amp;"
CSS = (Path(report.__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")


def test_the_page_says_what_it_shows_when_and_on_what_hardware(runs, page):
    header = page(runs).one("header").text
    assert "resnet_small on digits" in header
    assert "One dense network and three networks pruned to 10 % or 1 % of 2,000 weights" in header
    assert "1 March 2026" in header
    assert "harp 0.1.0, PyTorch 2.6.0" in header
    assert "Some CPU, 2 cores, on cpu" in header


def test_nothing_is_loaded_from_anywhere(runs, page, tmp_path: Path):
    for element in page(runs).all():
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            assert (element.attributes.get(name) or "data:").startswith(("data:", "#"))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", text)


def test_the_policy_allows_the_one_script_of_the_page_and_no_network(runs, page):
    html = page(runs)
    (policy,) = (m.attributes["content"] for m in html.all("meta") if m.attributes.get("http-equiv"))
    raw = "".join(child for child in html.one("script").children if isinstance(child, str))
    digest = base64.b64encode(hashlib.sha256(raw.encode()).digest()).decode()
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_hostile_texts_are_text_and_nothing_else(fake, evaluation, epoch, pictures, page):
    run = fake("dense", name=HOSTILE, data=HOSTILE, model=HOSTILE, classes=[HOSTILE] * 3, stage=HOSTILE)
    run.card |= {"environment": {HOSTILE: HOSTILE, "cpu": HOSTILE}, "layers": {}}
    attacked = evaluation(HOSTILE, 300, eps=0.1, per_attack={HOSTILE: 0.5}, notes=[HOSTILE])
    run.card["evaluations"] = [evaluation("clean", 900), attacked]
    run.metrics = [epoch(0), epoch(1)]
    run.recipe = {HOSTILE: HOSTILE}
    run.examples, run.examples_metadata = pictures(), {"attack": HOSTILE, "eps": HOSTILE}
    pruned = fake("harp", HOSTILE, (10, 5, 5), name=f"2 {HOSTILE}")
    pruned.card |= {"layers": {HOSTILE: {"kept": 20, "total": 2000}}, "data": HOSTILE, "model": HOSTILE}
    pruned.metrics = [epoch(i, layers={HOSTILE: 0.1 / (i + 1)}) for i in range(2)]
    html = page([run.write(), pruned.write()])
    assert len(html.all("script")) == 1
    assert len(html.all("style")) == 1
    for element in html.all():
        assert not [name for name in element.attributes if name.startswith("on")]
        assert element.tag != "img" or (element.attributes["src"] or "").startswith("data:")
    assert HOSTILE in html.one("h1").text
    assert html.text.count("{{ 7*7 }}") > 10
    assert HOSTILE in html.one("table", "gallery").one("tbody").text


def test_texts_that_utf8_cannot_say_do_not_stop_the_page(fake, tmp_path: Path):
    run = fake("dense", name="lone \ud800 surrogate").write()
    assert b"surrogate" in write_report([run], tmp_path / "report.html").read_bytes()


def test_the_same_runs_on_the_same_day_give_the_same_bytes_in_any_order(runs, tmp_path: Path):
    first = write_report(runs, tmp_path / "a.html", date=DATE).read_bytes()
    assert write_report(runs[::-1] + runs[:1], tmp_path / "b.html", date=DATE).read_bytes() == first


def test_a_bare_card_is_enough(fake, page):
    html = page([fake("dense").write()])
    assert "None of these runs was evaluated." in html.text
    assert html.all("figure") == []
    assert "No recipe.json in the run." in html.text


def test_every_table_names_its_rows_and_columns(runs, page):
    for table in page(runs).all("table"):
        assert all(head.attributes.get("scope") == "col" for head in table.one("thead").all("th"))
        for row in table.one("tbody").all("tr"):
            assert row.all("th")[0].attributes["scope"] == "row"


def test_every_figure_is_described_or_hidden_from_those_who_cannot_see_it(runs, page):
    for element in page(runs).all("svg"):
        described = element.attributes.get("role") == "img" and element.attributes.get("aria-label")
        assert described or element.attributes.get("aria-hidden") == "true"
    assert all(image.attributes.get("alt") for image in page(runs).all("img"))


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_colour_of_text_stands_out_from_the_paper(scheme: int):
    block = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    assert {"ink", "muted", "dense", "harp", "hydra", "lwm", "rates-only", "other-3", "right", "wrong"} <= set(colours)
    for name in set(colours) - {"paper", "raised", "rule", "grid"}:
        for background in ("paper", "raised") if name in ("ink", "muted") else ("paper",):
            light, dark = sorted((_luminance(colours[name]), _luminance(colours[background])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, name  # WCAG 2, level AA


def test_an_existing_page_is_replaced(runs, tmp_path: Path):
    out = tmp_path / "report.html"
    out.write_text("old")
    assert write_report(runs, out) == out
    assert "resnet_small" in out.read_text(encoding="utf-8")


def test_a_failure_while_writing_leaves_the_old_page_and_no_litter(runs, tmp_path: Path, monkeypatch):
    out = tmp_path / "pages" / "report.html"
    out.parent.mkdir()
    out.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(runs, out)
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    assert out.read_text() == "old"


def test_directories_of_the_page_are_made(runs, tmp_path: Path):
    assert write_report(runs, tmp_path / "new" / "deep" / "report.html").is_file()


@pytest.mark.parametrize("out", ["report.pdf", "card.json", "report"])
def test_only_html_files_are_written(runs, tmp_path: Path, out: str):
    with pytest.raises(ValueError, match="expected the name of an HTML file"):
        write_report(runs, tmp_path / out)


def test_no_runs_are_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="runs is empty"):
        write_report([], tmp_path / "report.html")


def test_the_report_of_the_last_time_may_lie_among_the_runs(runs, tmp_path: Path):
    out = tmp_path / "runs" / "report.html"
    write_report(runs, out)
    write_report(sorted((tmp_path / "runs").iterdir()), out)
    with pytest.raises(ValueError, match="only HTML files"):
        write_report([out], out)


def test_reading_changes_no_run(runs, tmp_path: Path):
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    write_report(runs, tmp_path / "report.html")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before


def test_the_report_needs_no_torch():
    code = "import sys, harp.report; sys.exit(any(m.split('.')[0] in ('torch', 'plotly') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
