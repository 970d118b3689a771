"""Opens a page in a real Chromium without a screen."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 120
_CONSOLE = re.compile(r"^\[[^\]]*CONSOLE[^\]]*\] (.*)$", re.MULTILINE)
_FLAGS = (
    "--headless=new",
    # Containers seldom have the kernel's user namespaces; the pages are our own.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--virtual-time-budget=10000",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--enable-logging=stderr",
)


@dataclass(frozen=True)
class Opened:
    """What the browser made of a page: its document after loading, and what it wrote to the console."""

    dom: str
    console: tuple[str, ...]


def dump_dom(url: str) -> Opened:
    """Load `url` and give the document and the messages on the console (blocked loads are such messages)."""
    output, log = _run("--dump-dom", url)
    return Opened(output, tuple(_CONSOLE.findall(log)))


def screenshot(url: str, path: Path, width: int, height: int, *, dark: bool = False) -> None:
    """Save what a window of `width` × `height` CSS pixels shows of `url` as PNG."""
    # In settings of the engine 0 is dark, 1 is light.
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    _run(scheme, f"--window-size={width},{height}", f"--screenshot={path}", url)
    if not path.is_file():
        raise RuntimeError(f"Chromium ended without writing {path}")


def print_pdf(url: str, path: Path) -> None:
    """Print `url` to a PDF file, as a reader would on paper."""
    _run("--no-pdf-header-footer", f"--print-to-pdf={path}", url)
    if not path.is_file():
        raise RuntimeError(f"Chromium ended without writing {path}")


def _run(*arguments: str) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(prefix="camnet-browser-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [_executable(), *_FLAGS, f"--user-data-dir={profile}", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, log = process.communicate(timeout=TIMEOUT_S)
        finally:
            # The session has the renderers too, which may outlive the browser.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"Chromium returned {process.returncode}: {log[-2000:]}")
    return output, log


def _executable() -> str:
    for name in (os.environ.get("CAMNET_BROWSER", "chromium"), "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError("no Chromium on PATH: install it, or name it in CAMNET_BROWSER")
