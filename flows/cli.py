"""The ``camnet`` command: errors become one screen of text and an exit code."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import signal
import sys
import traceback
from typing import Annotated

import typer
from rich.console import Console

from flows.commands import (
    array,
    benchmark,
    demo,
    globus,
    inspect_run,
    look,
    models,
    run,
    shards,
    stages,
    synth,
    transfers,
)
from flows.environment import prepare_environment
from tasks.errors import CamNetError, ExitCode


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"camnet {importlib.metadata.version('camnet')}")
        raise typer.Exit


app = typer.Typer(
    name="camnet",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for commands in (look, synth, run, stages, array, shards, transfers, benchmark, inspect_run, models, demo, globus):
    commands.register(app)


@app.callback()
def camnet(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="tell the version of CamNet")
    ] = False,
) -> None:
    """Whole-slide pathology across computing sites."""


# What typer makes of Ctrl-C.
_INTERRUPTED = 130


def main() -> None:
    """Run ``camnet`` and exit with one of `tasks.errors.ExitCode`."""
    prepare_environment()
    _log_to_terminal()
    # As Ctrl-C: Prefect, having ended a flow, sends the signal once more to whoever listened before.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command line; give its exit code. Errors are told on standard error."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except CamNetError as error:
        _tell(error)
        return int(error.exit_code)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _stopped()
    except Exception as error:
        if hasattr(error, "format_message"):  # a wrong option: click explains it better than a traceback
            Console(stderr=True).print(f"camnet: {error.format_message()}  (camnet --help)", highlight=False)
            return int(ExitCode.USAGE)
        traceback.print_exc()
        Console(stderr=True).print("\nThis is a bug of CamNet; please report it with the lines above.", style="red")
        return int(ExitCode.BUG)
    return _stopped() if code == _INTERRUPTED else int(code or 0)


def _stopped() -> int:
    Console(stderr=True).print("stopped; finished work is kept", style="yellow")
    return int(ExitCode.RETRY_LATER)


def _tell(error: CamNetError) -> None:
    facts = {
        "error": type(error).__name__,
        "subject": error.subject,
        "cause": error.cause,
        "remedy": error.remedy,
        "exit_code": int(error.exit_code),
    }
    if not sys.stderr.isatty():
        sys.stderr.write(json.dumps(facts, ensure_ascii=False) + "\n")
        return
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]{facts['error']}[/] (exit code {facts['exit_code']})")
    for name in ("subject", "cause", "remedy"):
        if facts[name]:
            console.print(f"  [bold]{name:8}[/]", end="")
            console.print(str(facts[name]), markup=False)


def _log_to_terminal() -> None:
    # Prefect's lines go to its server; on the terminal our own tell what a person needs.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    for noisy in ("distributed", "paramiko"):
        # They log as errors what we tell as errors, or recover from.
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(plain if sys.stderr.isatty() else _JsonLines())
    for name in ("flows", "tasks", "transfer", "deployments"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(os.environ.get("CAMNET_LOG_LEVEL", "INFO"))
        logger.propagate = False


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = {"time": record.created, "level": record.levelname, "from": record.name, "text": record.getMessage()}
        return json.dumps(facts, ensure_ascii=False)
