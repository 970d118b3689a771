"""A stand-in for FDT that is started in place of ``java -jar fdt.jar``: its command line, its log, its slow polls.

It has the habits of FDT 0.27 that a caller has to live with: files go by base name into one folder and are
not cut to length, an empty file that is pulled is deleted, several streams write out of order, the server
takes one job, and each side rests for a while before and after the bytes travel.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import sys
import threading
import time
from io import BufferedRWPair
from pathlib import Path
from typing import Any

FLAGS = {"-noupdates", "-nolock", "-notmp", "-S", "-pull"}
BLOCK_BYTES = 1 << 16
FRAME = struct.Struct(">IQI")  # file, offset, length


def log(words: str) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    sys.stderr.write(f"{now} INFO lia.util.net.copy.FDT {words}\n")
    sys.stderr.flush()


def options_of(arguments: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        name = rest.pop(0)
        assert name.startswith("-"), name
        options[name] = "" if name in FLAGS else rest.pop(0)
    return options


def serve(options: dict[str, str], poll_s: float) -> int:
    allowed = options["-f"] or os.environ["SSH_CLIENT"].split()[0]
    address = ("127.0.0.1", int(options["-p"])), ("127.0.0.1", int(options["-tp"]))
    try:
        control, data = (socket.create_server(one) for one in address)
    except OSError:
        log("Failed to instantiate FDT\njava.net.BindException: Address already in use")
        return 1
    log("main FDT uses *blocking* I/O mode.")
    sys.stdout.write("READY\n")
    sys.stdout.flush()
    client, (peer, _) = control.accept()
    log(f"filterSourceAddress Enforcing source address filter: [{allowed}/255.255.255.255]")
    if peer != allowed:
        log(f"Client [{peer}] is not allowed to transfer. Socket closed!")
        return 1
    with client.makefile("rwb") as talk:
        job = json.loads(talk.readline())
        try:
            if job["pull"]:
                sizes = [Path(path).stat().st_size for path in job["paths"]]
                say(talk, {"sizes": sizes})
                send(job, sizes, [data.accept()[0] for _ in range(job["streams"])])
                say(talk, json.loads(talk.readline()))
            else:
                say(talk, {})
                receive(job, job["sizes"], [data.accept()[0] for _ in range(job["streams"])])
                time.sleep(poll_s)
                say(talk, {})
        except OSError as error:
            log(f"FDTSession finished with error(s). Cause:\njava.io.IOException: {error.strerror}: {error.filename}")
            say(talk, {"error": "the remote side said: Session closed"})
            return 1
    time.sleep(poll_s)  # a caller that waits for its end waits as for FDT
    return 0


def carry(options: dict[str, str], poll_s: float) -> int:
    pairs = [re.split(r"\s+/\s+", line) for line in Path(options["-fl"]).read_text(encoding="utf-8").splitlines()]
    paths = [pair[0] for pair in pairs]
    job: dict[str, Any] = {
        "pull": "-pull" in options,
        "folder": options["-d"],
        "paths": paths,
        "names": [Path(pair[-1]).name for pair in pairs],
        "streams": int(options["-P"]),
        "limit": int(options.get("-limit", 0)),
    }
    time.sleep(poll_s)
    with socket.create_connection((options["-c"], int(options["-p"]))) as control, control.makefile("rwb") as talk:
        try:
            if not job["pull"]:
                job["sizes"] = [Path(path).stat().st_size for path in paths]
            say(talk, job)
            sizes = heard(talk).get("sizes") or job["sizes"]
            port = int(options["-p"]) + 1  # FDT asks the server for it
            log(f"getFDTTransferPort Got transfer port: {options['-c']}:{port}")
            streams = [socket.create_connection((options["-c"], port)) for _ in range(job["streams"])]
            (receive if job["pull"] else send)(job, sizes, streams)
            if job["pull"]:
                say(talk, {})
            heard(talk)
        except OSError as error:
            log(f"FDT Session finished with errors:\njava.io.IOException: {error.strerror or error}: {error.filename}")
            return 1
    log(" [ GracefulStopper hook started ... Waiting for the cleanup to finish")
    time.sleep(5 * poll_s)
    log("FDT Session finished OK.")
    return 0


def send(job: dict[str, Any], sizes: list[int], streams: list[socket.socket]) -> None:
    blocks = [(k, at) for k, size in enumerate(sizes) for at in range(0, size, BLOCK_BYTES)]
    start_s, sent = time.monotonic(), 0
    for number, (k, at) in enumerate(blocks):
        with Path(job["paths"][k]).open("rb") as file:
            file.seek(at)
            block = file.read(BLOCK_BYTES)
        streams[number % len(streams)].sendall(FRAME.pack(k, at, len(block)) + block)
        sent += len(block)
        if job["limit"]:
            time.sleep(max(0.0, sent / job["limit"] - (time.monotonic() - start_s)))
    for stream in streams:
        stream.close()


def receive(job: dict[str, Any], sizes: list[int], streams: list[socket.socket]) -> None:
    paths = [Path(job["folder"]) / name for name in job["names"]]
    files = [os.open(path, os.O_RDWR | os.O_CREAT, 0o666) for path in paths]
    errors: list[OSError] = []
    threads = [threading.Thread(target=store, args=(stream, files, errors)) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for descriptor, path, size in zip(files, paths, sizes, strict=True):
        os.close(descriptor)
        if size == 0:
            path.unlink()
    if errors:
        raise errors[0]
    log("finishFileSession STATUS: OK")


def store(stream: socket.socket, files: list[int], errors: list[OSError]) -> None:
    with stream, stream.makefile("rb") as data:
        try:
            while head := data.read(FRAME.size):
                k, at, length = FRAME.unpack(head)
                os.pwrite(files[k], data.read(length), at)
        except OSError as error:
            errors.append(error)


def say(talk: BufferedRWPair, words: dict[str, Any]) -> None:
    talk.write(json.dumps(words).encode() + b"\n")
    talk.flush()


def heard(talk: BufferedRWPair) -> dict[str, Any]:
    line = talk.readline()
    if not line:
        raise ConnectionResetError("Control channel is down")
    words: dict[str, Any] = json.loads(line)
    if "error" in words:
        raise ConnectionAbortedError(words["error"])
    return words


def main() -> int:
    assert sys.argv[1] == "-jar", sys.argv
    if not Path(sys.argv[2]).is_file():
        sys.stderr.write(f"Error: Unable to access jarfile {sys.argv[2]}\n")
        return 1
    options, poll_s = options_of(sys.argv[3:]), float(os.environ["STAND_IN_POLL_S"])
    log("main \n\nFDT [ 0.27.0-202411112030 ] STARTED ... \n\n")
    return carry(options, poll_s) if "-c" in options else serve(options, poll_s)


if __name__ == "__main__":
    sys.exit(main())
