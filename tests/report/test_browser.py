"""The page in a real browser: no complaint on the console, figures drawn, the small script at work."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harp.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--dump-dom",
]

# Appended to a copy of the page whose policy is taken out: what a reader would do, and what it changed.
READER = """<script>
const chart = document.querySelector("figure.chart g[data-readings]").closest("svg"), area = chart.getBoundingClientRect();
const x = parseFloat(chart.querySelector("polyline").getAttribute("points")) / chart.viewBox.baseVal.width;
chart.dispatchEvent(new PointerEvent("pointermove", { clientX: area.left + x * area.width, clientY: area.top + 9 }));
const names = () => [...document.querySelectorAll(".results tbody .name")].map((name) => name.textContent).join("|");
const heads = document.querySelectorAll(".results thead button"), seen = [names()];
for (const column of [2, 2, 0]) { heads[column].click(); seen.push(names()); }
const image = document.querySelector(".gallery img");
document.body.append(Object.assign(document.createElement("output"), { textContent: JSON.stringify({
  orders: seen, reading: document.querySelector(".reading").textContent, wide: document.documentElement.scrollWidth > innerWidth,
  image: image.complete && image.naturalWidth, heights: [...document.querySelectorAll("figure svg")].map((svg) => svg.clientHeight),
}) }));
</script>"""


pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")


def opened(page: Path, profile: Path, *flags: str) -> tuple[str, str]:
    """The page's elements after its script ran, and what the browser wrote to its console."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_the_page_opens_without_a_complaint_and_with_all_its_figures(runs, tmp_path: Path):
    dom, console = opened(write_report(runs, tmp_path / "report.html"), tmp_path / "profile")
    assert console == ""
    assert dom.count('<figure class="chart">') == 8
    assert 'class="layers"' in dom
    assert 'class="gallery pixelated"' in dom
    assert dom.count("<button>") == 5  # the script ran: the policy's hash is right


def test_pointing_reads_values_and_clicking_sorts_on_a_narrow_screen(runs, tmp_path: Path):
    page = write_report(runs, tmp_path / "report.html")
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    page.write_text(without_policy.replace("</body>", READER + "</body>"), encoding="utf-8")
    dom, console = opened(page, tmp_path / "profile", "--window-size=500,900")
    assert console == ""
    (output,) = re.findall(r"<output>(.*)</output>", dom)
    seen = json.loads(html.unescape(output))
    given, falling, rising, by_name = (order.split("|") for order in seen["orders"])
    assert given == ["Dense", "HARP 10 %", "HARP 1 %", "HYDRA 1 %"]
    assert falling == ["Dense", "HARP 1 %", "HYDRA 1 %", "HARP 10 %"]  # by clean accuracy; missing ones stay last
    assert rising == ["HYDRA 1 %", "HARP 1 %", "Dense", "HARP 10 %"]
    assert by_name == ["Dense", "HARP 1 %", "HARP 10 %", "HYDRA 1 %"]
    assert "epoch 1" in seen["reading"]
    assert not seen["wide"]
    assert seen["image"] == 4
    assert min(seen["heights"]) > 100
