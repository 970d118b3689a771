"""The run report in a real browser: all of it is there, nothing is asked of the network, nothing is run."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.report.data import ReportData
from tasks.report.page import write_report
from tests.services.browser import dump_dom, print_pdf, screenshot
from tests.services.sample_report import sample_report

SECTIONS = ("plan", "slides", "transfers", "training", "heatmaps", "looked", "sampling", "failures", "notes")


@dataclass
class Served:
    """A folder on a local port and the paths that were asked for."""

    address: str
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def data(folder: Path) -> ReportData:
    report = sample_report(folder)
    write_report(report, folder / "report.html")
    return report


@pytest.fixture
def served(folder: Path) -> Iterator[Served]:
    found = Served("")

    class Listed(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            found.asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Listed, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found.address = f"http://127.0.0.1:{server.server_address[1]}"
        yield found
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("data")
def test_the_page_opens_from_disk_with_all_its_parts_and_no_complaint(folder: Path) -> None:
    opened = dump_dom((folder / "report.html").as_uri())
    assert opened.console == ()
    assert all(f'<section id="{name}"' in opened.dom for name in SECTIONS)
    assert opened.dom.count("<img ") == opened.dom.count('src="data:image/')
    assert "patient_046_node_3.tif" in opened.dom


def test_names_that_are_html_load_and_run_nothing(data: ReportData, folder: Path, served: Served) -> None:
    name = f'<img src="{served.address}/leak.png" onerror="document.title=1"><script>document.title=2</script>'
    rows = tuple(row.model_copy(update={"slide": name}) for row in data.slides)
    hostile = data.model_copy(update={"run": name, "slides": rows, "notes": (name,), "configuration": name})
    write_report(hostile, folder / "hostile.html")
    opened = dump_dom(f"{served.address}/hostile.html")
    assert served.asked == ["/hostile.html"]
    assert opened.console == ()
    assert "<title>&lt;img src=" in opened.dom


def test_the_policy_stops_what_would_get_past_the_escaping(data: ReportData, folder: Path, served: Served) -> None:
    bad = '<img src="/leak.png"><script>document.title="run"</script>'
    page = (folder / "report.html").read_text().replace("<main>", f"<main>{bad}")
    (folder / "stopped.html").write_text(page)
    opened = dump_dom(f"{served.address}/stopped.html")
    assert served.asked == ["/stopped.html"]
    assert f"<title>{data.run}: partial" in opened.dom
    assert sum("Content Security Policy" in message for message in opened.console) == 2


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("width", [1400, 800])
def test_the_page_is_drawn_light_and_dark_within_its_window(folder: Path, tmp_path: Path, width: int) -> None:
    drawn = {}
    for dark in (False, True):
        screenshot((folder / "report.html").as_uri(), tmp_path / f"{dark}.png", width, 4000, dark=dark)
        with Image.open(tmp_path / f"{dark}.png") as image:
            drawn[dark] = np.asarray(image.convert("RGB"))
    assert all(picture.shape == (4000, width, 3) for picture in drawn.values())
    assert all(len(np.unique(picture[::7, ::7].reshape(-1, 3), axis=0)) > 1000 for picture in drawn.values())
    assert np.median(drawn[False]) > 240
    assert np.median(drawn[True]) < 40
    # A table wider than the page scrolls in its own frame: the margins stay empty.
    assert all(np.ptp(picture[600:, -15:].reshape(-1, 3), axis=0).max() < 8 for picture in drawn.values())


@pytest.mark.usefixtures("data")
def test_the_page_prints(folder: Path, tmp_path: Path) -> None:
    print_pdf((folder / "report.html").as_uri(), tmp_path / "report.pdf")
    printed = (tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert 4 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") <= 20
