"""What the commands ``camnet benchmark …`` have in common: lists in options, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.commands.options import print_json
from tasks.errors import InputError, PartialResult

if TYPE_CHECKING:
    from flows.benchmark.result import BenchmarkResult


def read_counts(text: str, option: str, *, most: int, example: str) -> tuple[int, ...]:
    """Read an option like ``1,2,4``; each number once, from 1 to `most`.

    Raises
    ------
    InputError
        It is something else.
    """
    remedy = f"write {option} {example}"
    try:
        counts = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise InputError(f"{option} {text!r} is no list of numbers", remedy=remedy) from error
    if not all(1 <= number <= most for number in counts):
        raise InputError(f"{option} {text!r}: each must be 1 to {most}", remedy=remedy)
    return counts


def read_names(text: str, option: str, *, example: str, least: int = 1) -> tuple[str, ...]:
    """Read an option like ``a,b``; each name once, and at least so many.

    Raises
    ------
    InputError
        There are fewer.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if len(names) < least:
        said = f"names {len(names)}, at least {least} are needed" if names else "names nothing"
        raise InputError(f"{option} {said}", remedy=f"write {option} {example}")
    return names


def end_benchmark(result: BenchmarkResult, trials: str) -> None:
    """Print what came of a benchmark.

    Parameters
    ----------
    trials
        What they are called.

    Raises
    ------
    PartialResult
        Some failed.
    """
    print_json(result)
    if result.failed:
        raise PartialResult(
            f"{result.failed} of {result.trials} {trials} failed",
            subject=result.report,
            remedy="see the report's end; the same command tries them again",
        )
