"""Commands of the hub, forked from a process that has loaded it: `python -m tests.journeys.forked SOCKET`.

Business of this file: a command costs its work, and not the second of loading everything anew. Each still is a process
of its own, with its own environment, output and end. Who asks sends a line of JSON (`words`, `environment`, `within`)
with two files for what is said, and is told the exit code, or null when the command did not end in time and was killed.
It ends with its standard input.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
from pathlib import Path

_LARGEST = 1 << 20


def _run(words: list[str], environment: dict[str, str], files: list[int]) -> None:
    """Never returns."""
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for target, file in enumerate(files, start=1):
        os.dup2(file, target)
    if coding := environment.get("PYTHONIOENCODING"):
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding=coding)  # type: ignore[union-attr]
    sys.argv = ["hub", *words]
    code = 0
    try:
        runpy.run_module("hub", run_name="__main__", alter_sys=False)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _serve(conversation: socket.socket) -> None:
    told, files, _, _ = socket.recv_fds(conversation, _LARGEST, 2)
    while not told.endswith(b"\n"):
        told += conversation.recv(_LARGEST)
    order = json.loads(told)
    child = os.fork()
    if child == 0:
        conversation.close()
        _run(order["words"], order["environment"], files)
    until = time.monotonic() + order["within"]
    code: int | None = None
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.005)
    else:
        os.kill(child, signal.SIGKILL)
    conversation.sendall(json.dumps(code).encode() + b"\n")


def main() -> None:
    import hub.cli  # noqa: F401 - what is loaded here need not be loaded again

    gc.freeze()
    door = socket.socket(socket.AF_UNIX)
    door.bind(sys.argv[1])
    door.listen(64)
    Path(sys.argv[1] + ".ready").touch()
    # Those who serve one conversation are waited for by nobody.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while sys.stdin not in (ready := select.select([door, sys.stdin], [], [])[0]):
        assert ready
        conversation, _ = door.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            door.close()
            try:
                _serve(conversation)
            finally:
                os._exit(0)
        conversation.close()


if __name__ == "__main__":
    main()
