from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.patches.shards.names import patch_name, safe_name

# As h5py reads bytes that are no UTF-8: with lone surrogates.
ANY = st.one_of(st.text(), st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))


@given(ANY)
def test_a_name_is_one_plain_part_of_a_path(text: str) -> None:
    name = safe_name(text)
    assert "/" not in name
    assert name not in (".", "..")
    assert not name.startswith(".")
    assert re.fullmatch(r"[\w.%-]*", name) or all(part.isalnum() or part in "-_.%" for part in name)
    name.encode()


@given(ANY, ANY)
def test_different_slides_have_different_names(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


@pytest.mark.parametrize(
    ("slide", "name"),
    [
        ("patient_004_node_4", "patient_004_node_4_12_7"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd_12_7"),
        ("Präparat 1.2", "Präparat%201.2_12_7"),
        ("a\nb\x00%", "a%0Ab%00%25_12_7"),
    ],
)
def test_names_of_patches(slide: str, name: str) -> None:
    assert patch_name(slide, 12, 7) == name
