"""The run report: nothing leaves the file, nothing is executed, nothing is passed over in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.artifacts import Record
from tasks.errors import InputError, PermanentFault
from tasks.report.data import Failure, ReportData, Score
from tasks.report.page import report_html, totals, write_report
from tasks.report.quality import quality_rows
from tests.services.html_page import Page
from tests.services.sample_report import (
    HOSTILE_NAME,
    SPECIMENS,
    UNREADABLE,
    empty_report,
    partly_validated_card,
    sample_report,
)
from tests.services.small_disk import needs_root, small_disk

SECTIONS = [
    "Plan and times",
    "Slides",
    "Transfers",
    "Training",
    "Heatmaps beside the truth",
    "What the model looked at",
    "Sampling",
    "Failures",
    "Notes",
    "Configuration and versions",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def data(folder: Path) -> ReportData:
    return sample_report(folder)


@pytest.fixture(scope="module")
def page(data: ReportData, folder: Path) -> Page:
    write_report(data, folder / "report.html")
    return Page((folder / "report.html").read_text())


def hostile(data: ReportData) -> ReportData:
    """Put a piece of HTML in place of every text of a report."""

    def replaced(value: object) -> object:
        if isinstance(value, Record):
            return value.model_copy(update={name: replaced(getattr(value, name)) for name in type(value).model_fields})
        if isinstance(value, dict):
            return {HOSTILE_NAME: replaced(next(iter(value.values())))} if value else {}
        if isinstance(value, tuple):
            return tuple(replaced(item) for item in value)
        return HOSTILE_NAME if isinstance(value, str) else value

    report = replaced(data)
    assert isinstance(report, ReportData)
    return report


def test_the_page_is_complete_in_itself(page: Page) -> None:
    assert page.leaks() == []
    pictures = page.all("img")
    assert len(pictures) == 3 + 2 * 4 + len(SPECIMENS)
    assert all(picture["src"].startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for picture in pictures)
    assert all(len(picture["alt"]) > 20 for picture in pictures)


@pytest.mark.parametrize(
    "html",
    [
        "<img src='http://example.org/a.png'>",
        "<a href='other.html'>x</a>",
        "<script>1</script>",
        "<p onclick='x'></p>",
        "<p style='background:url(x)'></p>",
        "<style>@import 'x';</style>",
    ],
)
def test_the_search_for_leaks_finds_them(html: str) -> None:
    assert len(Page(html).leaks()) == 1


def test_the_policy_of_the_page_forbids_what_it_does_not_need(page: Page) -> None:
    (policy,) = [
        meta["content"] for meta in page.all("meta") if "content-security" in meta.get("http-equiv", "").lower()
    ]
    assert "default-src 'none'" in policy
    assert "img-src data:" in policy
    assert "script" not in policy


def test_headings_ids_and_tables_can_be_followed_by_ear_and_keyboard(page: Page) -> None:
    assert page.text_of("h1") == ["camelyon-two-sites"]
    assert page.text_of("h2") == SECTIONS
    assert page.all("html") == [{"lang": "en"}]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.all("a")} <= set(ids)
    assert all(head.get("scope") in {"col", "row", "colgroup"} for head in page.all("th"))


def test_every_text_from_outside_is_shown_as_text(data: ReportData, folder: Path) -> None:
    page = Page(report_html(hostile(data), folder))
    assert page.leaks() == []
    assert not [picture for picture in page.all("img") if picture["src"] == "x" or "onerror" in picture]
    assert page.text_of("h1") == [HOSTILE_NAME]
    for section in ("plan", "slides", "transfers", "training", "heatmaps", "looked", "sampling", "failures", "notes"):
        assert HOSTILE_NAME in page.section(section), section
    assert HOSTILE_NAME in page.section("configuration")


def test_the_name_of_a_broken_picture_is_shown_as_text(data: ReportData, folder: Path) -> None:
    broken = data.model_copy(update={"thumbnails": (("slide_1", Path(HOSTILE_NAME)),)})
    page = Page(report_html(broken, folder))
    assert page.leaks() == []
    assert f"{HOSTILE_NAME} is not there" in page.section("sampling")


def test_the_head_tells_the_run(page: Page) -> None:
    (head,) = page.text_of("header")
    assert "partial some inputs failed, all others are finished" in head
    assert "Started 2026-03-02 08:14:07 UTC" in head
    assert "Total time 49 min 11 s" in head
    assert "Sites site-a, site-b" in head
    assert page.text_of("title") == ["camelyon-two-sites: partial (CamNet run report)"]


def test_the_key_figures_are_those_of_the_rows(page: Page, data: ReportData) -> None:
    figures = page.text_of("dl", **{"class": "figures"})[0]
    patches = sum(row.tumour_patches + row.normal_patches for row in data.slides)
    assert "Slides 12 11 done, 1 failed" in figures
    assert f"Sampled patches {patches:,}" in figures
    assert "Moved between sites 1.24 GB at 309 Mb/s on the wire" in figures
    assert "Patch AUC 0.953 95 % interval 0.91 to 0.98, on slides not trained on" in figures
    assert "Slide AUC needs 3 positive slides or more, there are 2" in figures


def test_the_rate_of_several_transfers_is_weighted_by_wire_seconds(data: ReportData) -> None:
    fast = data.transfers[0].model_copy(update={"megabits_per_s": 800.0, "wire_s": 1.0})
    slow = data.transfers[0].model_copy(update={"megabits_per_s": 80.0, "wire_s": 9.0})
    unknown = data.transfers[0].model_copy(update={"megabits_per_s": None, "wire_s": 100.0})
    assert totals(data.model_copy(update={"transfers": (fast, slow, unknown)})).megabits_per_s == pytest.approx(152.0)
    assert totals(data.model_copy(update={"transfers": (unknown,)})).megabits_per_s is None


def test_shares_of_time_are_drawn_to_scale(page: Page, data: ReportData) -> None:
    whole_s = sum(row.seconds for row in data.stages)
    widths = [bar["style"] for bar in page.all("i")]
    assert widths[: len(data.stages)] == [f"width:{100 * row.seconds / whole_s:.1f}%" for row in data.stages]
    assert widths[len(data.stages) :] == [f"width:{100 * row.slide_score:.1f}%" for row in data.heatmaps]


def test_units_stand_in_the_headings(page: Page) -> None:
    heads = page.text_of("th", scope="col")
    for head in ("Moved (MB)", "Wire time (s)", "Verify time (s)", "Rate (Mb/s)", "Median file (Mb/s)", "Re-sent (MB)"):
        assert head in heads
    assert heads.count("Time (s)") == 2
    assert "monotonic clock; verifying digests is counted apart" in page.section("transfers")
    assert "1,238.40 31.70 4.20 312.5 296.1 8.39 1" in " ".join(page.text_of("td", **{"class": "n"}))


def test_reasons_of_left_out_positions_are_columns_with_sums(page: Page, data: ReportData) -> None:
    section = page.section("slides")
    assert "Positions left out, by reason too little tissue" not in section  # the groups share the first row
    for reason in ("too little tissue", "white", "black", "over the slide's edge", "tumour border or not annotated"):
        assert reason in page.text_of("th", scope="col")
    assert f"{sum(row.rejected.get('too little tissue', 0) for row in data.slides):,}" in page.text_of("td")
    assert list(totals(data).rejected)[:2] == ["too little tissue", "white"]


def test_failures_are_at_the_top_and_have_cause_and_remedy(page: Page, data: ReportData) -> None:
    (banner,) = page.text_of("p", **{"class": "banner partial"})
    assert banner.startswith("1 failure in this run.")
    assert "#failures" in [link["href"] for link in page.all("a")]
    row = data.failures[0]
    assert f"{row.stage} slides/{UNREADABLE}.tif {row.cause} {row.remedy}" in page.section("failures")


def test_a_failure_without_remedy_says_so(folder: Path) -> None:
    failure = Failure(stage="train", subject="rank 1", cause="was killed", remedy=None)
    page = Page(report_html(empty_report().model_copy(update={"failures": (failure, failure)}), folder))
    assert page.text_of("p", **{"class": "banner failed"})[0].startswith("2 failures in this run.")
    assert "rank 1 was killed no remedy is known" in page.section("failures")


def test_a_run_without_anything_leaves_no_hole(folder: Path) -> None:
    page = Page(report_html(empty_report(), folder))
    assert page.text_of("h2") == SECTIONS
    assert not page.text_of("p", **{"class": "banner failed"})
    words = {
        "plan": "No stage ran",
        "slides": "No slide was cut into patches",
        "transfers": "Nothing was moved between sites",
        "training": "There is no model and there are no training curves",
        "heatmaps": "No slide was scored",
        "looked": "There are no Grad-CAM pictures",
        "sampling": "There are no pictures of the sampling",
        "failures": "none",
        "notes": "none",
        "configuration": "not recorded",
    }
    for section, said in words.items():
        assert said in page.section(section)
    assert "Patch AUC not computed" in page.text_of("dl", **{"class": "figures"})[0]


def test_the_quality_of_the_model_is_told_by_split_and_centre(page: Page, data: ReportData) -> None:
    said = page.section("training")
    validation, _, _, test = data.quality[:4]
    for row in (validation, test):
        for figure in (row.auc, row.accuracy, row.sensitivity, row.specificity, row.log_loss, row.brier):
            assert figure is not None
            assert f"{figure.value:.3f} {figure.low:.2f} to {figure.high:.2f}" in said
    assert "validation: chose the epoch and, unless it is stated, the threshold" in said
    assert "test: measured once, after the training; nothing was chosen by it" in said
    # The third centre of the test split has no tumour.
    assert [row.auc.value is None for row in data.quality] == [False] * 6 + [True]
    assert said.count("one class only") == 1


def test_a_validation_in_part_is_marked(page: Page, data: ReportData, folder: Path) -> None:
    told = "Some of its shards had not come when it was measured"
    assert told not in page.section("training")
    partly = data.model_copy(update={"quality": quality_rows(partly_validated_card())})
    said = Page(report_html(partly, folder)).section("training")
    assert said.count(told) == 1
    assert said.count("validation, incomplete") == 3


def test_pictures_that_stay_at_their_site_are_named(data: ReportData, folder: Path) -> None:
    kept, *others = data.heatmaps
    away = tuple(row.model_copy(update={"heatmap": None, "panel": None}) for row in others)
    page = Page(report_html(data.model_copy(update={"heatmaps": (kept, *away)}), folder))
    for section in ("heatmaps", "looked"):
        assert f"for {', '.join(row.slide for row in away)}: none was drawn, or it stays" in page.section(section)
    assert len(page.all("img")) == 3 + 2 + len(SPECIMENS)


def test_one_class_has_no_area_and_a_reason(data: ReportData, folder: Path) -> None:
    note = "all scored patches are normal"
    one_class = data.model_copy(update={"patch_auc": Score(value=None, low=None, high=None, note=note)})
    page = Page(report_html(one_class, folder))
    assert f"Patch AUC {note}" in page.text_of("dl", **{"class": "figures"})[0]
    assert "one class only" in page.section("heatmaps")
    assert "None" not in "".join(page.text_of("main"))


def test_a_big_picture_is_smaller_on_the_page_and_its_original_is_named(page: Page, folder: Path) -> None:
    (wide,) = [image for image in page.all("img") if image["alt"].startswith(f"Heatmap of {SPECIMENS[7].name} ")]
    assert int(wide["width"]) <= 1800
    assert f"a smaller copy of {SPECIMENS[7].name}.heatmap.png, 2100 × 644 px" in page.section("heatmaps")
    assert (folder / f"{SPECIMENS[7].name}.heatmap.png").is_file()


def test_a_picture_drawn_small_can_be_enlarged_by_keyboard(page: Page, data: ReportData) -> None:
    switches = [switch["aria-label"] for switch in page.all("input")]
    assert all(label.startswith("Enlarge: ") for label in switches)
    panels_and_thumbnails = len(data.heatmaps) + len(data.thumbnails)
    assert len(switches) == panels_and_thumbnails == len(page.all("label"))


def test_the_same_run_gives_the_same_page(data: ReportData, folder: Path) -> None:
    assert report_html(data, folder) == report_html(ReportData.model_validate_json(data.model_dump_json()), folder)


def test_a_page_that_cannot_be_written_is_an_error_of_the_caller(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError):
        write_report(empty_report(), tmp_path / "report.html")


@needs_root
def test_a_page_that_does_not_fit_on_the_disk_leaves_the_one_before(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        path = disk / "report.html"
        path.write_text("the one before")
        (disk / "ballast").write_bytes(bytes(52 * 1024))
        with pytest.raises(PermanentFault, match=r"report\.html: cannot be written \(No space left.*free some space"):
            write_report(empty_report(), path)
        assert path.read_text() == "the one before"
        (disk / "ballast").unlink()
        write_report(empty_report(), path)
        assert path.read_text().endswith("</html>")
