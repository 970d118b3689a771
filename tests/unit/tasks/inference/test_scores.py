import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from pydantic import ValidationError

from tasks.errors import IntegrityError
from tasks.inference.scores import COLUMN_DTYPES, Scores, read_scores, write_scores
from tests.services.scored_slide import grid_corners, make_scores


@pytest.fixture
def scores() -> Scores:
    x, y = grid_corners()
    random = np.random.default_rng(0)
    return make_scores(x, y, random.random(len(x)), label=random.integers(-1, 2, len(x)).astype(np.int8))


def test_what_is_written_is_read(scores: Scores, tmp_path: Path) -> None:
    write_scores(tmp_path / "a.scores.h5", scores)
    back = read_scores(tmp_path / "a.scores.h5")
    assert back.attributes == scores.attributes
    for name, dtype in COLUMN_DTYPES.items():
        assert getattr(back, name).dtype == dtype
        np.testing.assert_array_equal(getattr(back, name), getattr(scores, name))


def test_a_centre_that_is_not_known_stays_so(scores: Scores, tmp_path: Path) -> None:
    unknown = replace(scores, attributes=scores.attributes.model_copy(update={"centre": None}))
    write_scores(tmp_path / "a.scores.h5", unknown)
    assert read_scores(tmp_path / "a.scores.h5").attributes.centre is None


def test_the_same_scores_give_the_same_bytes(scores: Scores, tmp_path: Path) -> None:
    write_scores(tmp_path / "a.scores.h5", scores)
    time.sleep(1.1)  # time stamps of HDF5 count seconds
    write_scores(tmp_path / "b.scores.h5", scores)
    assert (tmp_path / "a.scores.h5").read_bytes() == (tmp_path / "b.scores.h5").read_bytes()


def test_a_slide_name_cannot_lead_out_of_the_folder(scores: Scores) -> None:
    for name in ("../x", "a/b", "a\\b", "a\nb", ""):
        with pytest.raises(ValidationError, match="slide"):
            type(scores.attributes).model_validate(scores.attributes.model_dump() | {"slide": name})


def _other_schema(file: h5py.File) -> None:
    file.attrs["schema"] = "camnet-scores/2"


def _unknown_attribute(file: h5py.File) -> None:
    file.attrs["surprise"] = 1


def _missing_attribute(file: h5py.File) -> None:
    del file.attrs["model_digest"]


def _missing_column(file: h5py.File) -> None:
    del file["label"]


def _other_dtype(file: h5py.File) -> None:
    values = file["probability"][:]
    del file["probability"]
    file["probability"] = values.astype(np.float64)


def _two_dimensions(file: h5py.File) -> None:
    values = file["label"][:]
    del file["label"]
    file["label"] = values[:, None]


def _shorter_column(file: h5py.File) -> None:
    values = file["y_level0_px"][:-1]
    del file["y_level0_px"]
    file["y_level0_px"] = values


def _external_link(file: h5py.File) -> None:
    del file["probability"]
    file["probability"] = h5py.ExternalLink("other.h5", "/probability")


def _soft_link(file: h5py.File) -> None:
    del file["probability"]
    file["probability"] = h5py.SoftLink("/tumour_fraction")


def _external_storage(file: h5py.File) -> None:
    rows = len(file["label"])
    del file["label"]
    file.create_dataset("label", (rows,), "int8", external=[("/etc/hostname", 0, rows)])


def _claims_a_terabyte(file: h5py.File) -> None:
    del file["x_level0_px"]
    file.create_dataset("x_level0_px", (1 << 37,), "int64", chunks=(1 << 20,))


def _more_than_certain(file: h5py.File) -> None:
    file["probability"][3] = 1.5


def _no_number(file: h5py.File) -> None:
    file["probability"][3] = np.nan


def _fourth_label(file: h5py.File) -> None:
    file["label"][0] = 7


@pytest.mark.parametrize(
    ("tamper", "cause"),
    [
        (_other_schema, "format"),
        (_unknown_attribute, "surprise"),
        (_missing_attribute, "model_digest"),
        (_missing_column, "no label of its own"),
        (_other_dtype, "no column probability of type float32"),
        (_two_dimensions, "no column label"),
        (_shorter_column, "different lengths"),
        (_external_link, "no probability of its own"),
        (_soft_link, "no probability of its own"),
        (_external_storage, "does not hold all values of label"),
        (_claims_a_terabyte, "does not hold all values of x_level0_px"),
        (_more_than_certain, "outside 0..1"),
        (_no_number, "outside 0..1"),
        (_fourth_label, "labels other than"),
    ],
)
def test_a_file_that_was_tampered_with_is_refused(
    scores: Scores, tmp_path: Path, tamper: Callable[[h5py.File], None], cause: str
) -> None:
    path = tmp_path / "a.scores.h5"
    write_scores(path, scores)
    with h5py.File(path, "a") as file:
        tamper(file)
    with pytest.raises(IntegrityError, match=cause) as refused:
        read_scores(path)
    assert refused.value.subject == str(path)


def test_a_file_that_was_cut_off_or_is_missing_is_refused(scores: Scores, tmp_path: Path) -> None:
    path = tmp_path / "a.scores.h5"
    with pytest.raises(IntegrityError, match="not there"):
        read_scores(path)
    write_scores(path, scores)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(IntegrityError, match="no complete HDF5 file"):
        read_scores(path)


def test_flipped_bits_of_the_files_head_are_integrity_errors_or_harmless(scores: Scores, tmp_path: Path) -> None:
    write_scores(tmp_path / "a.scores.h5", scores)
    data, refused = (tmp_path / "a.scores.h5").read_bytes(), 0
    for at in [at for at in range(700) if data[at]]:
        (tmp_path / "b.scores.h5").write_bytes(data[:at] + bytes([data[at] ^ 0x01]) + data[at + 1 :])
        try:
            read_scores(tmp_path / "b.scores.h5")
        except IntegrityError:
            refused += 1
    assert refused > 20
