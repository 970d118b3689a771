from __future__ import annotations

from tasks.report.benchmark_rows import csv_text, measured_when


def test_rows_with_other_columns_share_one_table() -> None:
    assert csv_text([{"a": 1, "b": "x"}, {"a": 2, "error": "no, none"}]) == 'a,b,error\n1,x,\n2,,"no, none"\n'
    assert csv_text([]) == ""


def test_the_first_and_the_last_start_are_told() -> None:
    starts = ["2026-11-27T04:44:09+00:00", "2026-11-27T04:23:01+00:00"]
    assert measured_when(starts) == "Measured from 2026-11-27 04:23 to 2026-11-27 04:44 UTC"
    assert measured_when([]) == "Nothing was measured"
