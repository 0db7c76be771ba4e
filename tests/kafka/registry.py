"""A schema registry for the tests: Apicurio, which speaks Confluent's interface, as a child process.

Business of this file: fetching it (see registry-pom.xml), starting it on the loopback address with what it keeps in
memory, and what can happen to it. It dies with the process that started it. Where Java or Maven is missing, whoever
asks is skipped with a sentence.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from tests.kafka.broker import die_with_the_parent, fetched
from tests.ports import free_port

_POM = Path(__file__).with_name("registry-pom.xml")
_UNPACK = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack-dependencies"
_PATIENCE = 90
_JAVA = ("java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


class Registry:
    """`url` is where it is found, also while it is away. What it keeps outlives a pause, and no end."""

    def __init__(self) -> None:
        [program] = fetched("registry", _POM, _UNPACK).glob("*-runner.jar")
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="hub-tests-registry-"))
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}/apis/ccompat/v7"

    def start(self) -> None:
        """Ready to be used."""
        log = self._folder / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [
                    *_JAVA,
                    "-Dquarkus.http.host=127.0.0.1",
                    f"-Dquarkus.http.port={self._port}",
                    "-Dquarkus.datasource.jdbc.url=jdbc:h2:mem:registry",
                    "-jar",
                    str(self._program),
                ],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=die_with_the_parent,
            )
        until = time.monotonic() + _PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the registry did not start:\n{log.read_text('utf-8')[-4000:]}")
            time.sleep(0.05)

    def pause(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(_PATIENCE)
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, method: str, path: str, told: Mapping[str, Any] | None = None) -> Any:
        """As any client of it does; what it answers."""
        request = urllib.request.Request(self.url + path, method=method)
        if told is not None:
            request.data = json.dumps(told).encode()
            request.add_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def _answers(self) -> bool:
        try:
            return bool(self.ask("GET", "/subjects") is not None)
        except (HTTPError, URLError, OSError):
            return False
