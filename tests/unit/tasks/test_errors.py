from __future__ import annotations

import pickle

import pytest

from tasks import errors
from tasks.errors import (
    CamNetError,
    ExitCode,
    InputError,
    IntegrityError,
    PartialResult,
    PermanentFault,
    PolicyRefusal,
    RetryableFault,
)

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CamNetError)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("subject", "remedy"),
    [("/data/a.tif", "copy it again"), (None, "copy it again"), ("/data/a.tif", None), (None, None)],
)
def test_an_error_comes_whole_out_of_another_process(
    kind: type[CamNetError], subject: str | None, remedy: str | None
) -> None:
    error = kind("is cut off", subject=subject, remedy=remedy)
    other = pickle.loads(pickle.dumps(error))  # noqa: S301  # as Dask sends it
    assert type(other) is kind
    assert (other.cause, other.subject, other.remedy) == ("is cut off", subject, remedy)
    assert str(other) == str(error)


def test_the_sentence_names_file_cause_and_remedy() -> None:
    error = InputError("is cut off", subject="/data/a.tif", remedy="copy it again")
    assert str(error) == "/data/a.tif: is cut off. Remedy: copy it again."
    assert str(InputError("is cut off")) == "is cut off."


def test_exit_codes_are_those_that_users_script_against() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "BUG": 1,
        "USAGE": 2,
        "PARTIAL": 3,
        "INTEGRITY": 4,
        "RETRY_LATER": 5,
        "POLICY": 6,
    }
    assert [kind("x").exit_code for kind in (InputError, PartialResult, IntegrityError, RetryableFault)] == [2, 3, 4, 5]
    assert [kind("x").exit_code for kind in (PermanentFault, PolicyRefusal)] == [5, 6]


def test_what_may_be_tried_again_is_told_by_the_type() -> None:
    assert not issubclass(IntegrityError, RetryableFault)
    assert not issubclass(PolicyRefusal, RetryableFault)
    assert issubclass(IntegrityError, PermanentFault)
