"""Apache Kafka for the tests: one broker or three, as child processes that can be paused, killed and restarted.

Business of this file: fetching the jars that pom.xml names (once, with Maven), and the life of the processes.
`shared()` is the one broker of a test run: the one HUB_TEST_KAFKA names (it must allow sessions of three
seconds, and none of a fifth of one), or one of our own. Where Java or Maven is missing, whoever asks is
skipped with a sentence. A broker listens on the loopback address, and dies with the process that started it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ports import free_ports

_POM = Path(__file__).with_name("pom.xml")
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_PATIENCE = 90

# Small, and quickly there: a broker of the tests lives for a minute.
_JAVA = ("java", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")

_SETTINGS = """
process.roles=broker,controller
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=1
log.cleaner.enable=false
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""


@functools.cache
def shared() -> str:
    """Where the broker of this test run is found; it ends with the run."""
    given = os.environ.get("HUB_TEST_KAFKA")
    if given:
        return given
    brokers = Brokers()
    atexit.register(brokers.end)
    brokers.start()
    return brokers.bootstrap


@contextlib.contextmanager
def one_of_its_own(settings: str = "", java: tuple[str, ...] = _JAVA) -> Iterator[Brokers]:
    """One that may be paused, killed and emptied: nobody else uses it."""
    broker = Brokers(settings=settings, java=java)
    try:
        broker.start()
        yield broker
    finally:
        broker.end()


class Brokers:
    """A cluster of one or three brokers, each also a controller. Data and ports outlive a restart of one.
    `settings` are lines of server.properties, the same for each; `formatting` further words for the
    storage's formatting; `listeners` further listeners by name (their ports: `port`)."""

    def __init__(
        self,
        count: int = 1,
        settings: str = "",
        formatting: tuple[str, ...] = (),
        listeners: tuple[str, ...] = (),
        java: tuple[str, ...] = _JAVA,
    ) -> None:
        self._classes = f"{jars()}/*"
        self._virtual_machine = java
        self._folder = Path(tempfile.mkdtemp(prefix="hub-tests-kafka-", dir=_quickest()))
        names = ("PLAINTEXT", "CONTROLLER", *listeners)
        ports = iter(free_ports(count * len(names)))
        self._nodes = [
            _Node(number, {name: next(ports) for name in names}, self._folder / f"node-{number}")
            for number in range(1, count + 1)
        ]
        self._formatting = formatting
        for node in self._nodes:
            self._write(node, settings)

    @property
    def folder(self) -> Path:
        """Where all of them have their data."""
        return self._folder

    @property
    def processes(self) -> list[int]:
        """Of those that were started."""
        return [node.process.pid for node in self._nodes if node.process is not None]

    @property
    def bootstrap(self) -> str:
        return self.address("PLAINTEXT")

    def address(self, listener: str) -> str:
        return ",".join(f"127.0.0.1:{node.ports[listener]}" for node in self._nodes)

    def start(self) -> None:
        """All of them, ready to be used."""
        self._end_formatting(self._nodes)
        for node in self._nodes:
            self._launch(node)
        self.wait()

    def pause(self, number: int = 1) -> None:
        """It neither answers nor notices anything until it is resumed."""
        self._signal(number, signal.SIGSTOP)

    def resume(self, number: int = 1) -> None:
        self._signal(number, signal.SIGCONT)

    def kill(self, number: int = 1) -> None:
        """As when its machine loses its power, but for the disk."""
        self._signal(number, signal.SIGKILL)
        process = self._nodes[number - 1].process
        assert process is not None
        process.wait(_PATIENCE)

    def restart(self, number: int = 1) -> None:
        """One that was killed: the same ports, the same data. Not ready when this returns: see `wait`. To be
        called in a thread that lives as long as the broker shall: it dies with its parent, which is one."""
        self._launch(self._nodes[number - 1])

    def restart_empty(self, number: int = 1) -> None:
        """One that was killed and whose disk is lost: the same ports, no data. Not ready when this returns; see
        `restart`."""
        node = self._nodes[number - 1]
        shutil.rmtree(node.data)
        self._end_formatting([node])
        self._launch(node)

    def wait(self) -> None:
        """Until all of them are ready to be used."""
        for node in self._nodes:
            self._wait(node)

    def end(self) -> None:
        for node in self._nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.kill()
                node.process.wait(_PATIENCE)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, node: _Node, settings: str) -> None:
        node.folder.mkdir()
        voters = ",".join(f"{one.number}@127.0.0.1:{one.ports['CONTROLLER']}" for one in self._nodes)
        inside = [name for name in node.ports if name != "CONTROLLER"]
        copies = len(self._nodes)
        lines = (
            f"node.id={node.number}",
            f"controller.quorum.voters={voters}",
            "listeners=" + ",".join(f"{name}://127.0.0.1:{port}" for name, port in node.ports.items()),
            "advertised.listeners=" + ",".join(f"{name}://127.0.0.1:{node.ports[name]}" for name in inside),
            f"log.dirs={node.data}",
            f"offsets.topic.replication.factor={copies}",
            f"transaction.state.log.replication.factor={copies}",
            f"transaction.state.log.min.isr={min(copies, 2)}",
            f"share.coordinator.state.topic.replication.factor={copies}",
        )
        node.settings.write_text(_SETTINGS + "\n".join((*lines, settings, "")))

    def _end_formatting(self, nodes: Sequence[_Node]) -> None:
        for node, process in [(node, self._format(node)) for node in nodes]:
            if process.wait(_PATIENCE):
                raise AssertionError(f"formatting failed:\n{self._told(node)}")

    def _format(self, node: _Node) -> subprocess.Popen[bytes]:
        # The same for each of them.
        cluster = hashlib.sha256(str(self._folder).encode()).hexdigest()[:22]
        return self._java(
            node,
            "kafka.tools.StorageTool",
            *("format", "-t", cluster, "-c", str(node.settings)),
            *self._formatting,
        )

    def _launch(self, node: _Node) -> None:
        node.process = self._java(node, "kafka.Kafka", str(node.settings))

    def _java(self, node: _Node, program: str, *words: str) -> subprocess.Popen[bytes]:
        with node.log.open("ab") as log:
            return subprocess.Popen(
                [*self._virtual_machine, "-cp", self._classes, program, *words],
                cwd=node.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_the_parent,
            )

    def _wait(self, node: _Node) -> None:
        until = time.monotonic() + _PATIENCE
        assert node.process is not None
        while not _answers(node.ports["PLAINTEXT"]):
            if node.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"broker {node.number} did not start:\n{self._told(node)}")
            time.sleep(0.05)

    def _told(self, node: _Node) -> str:
        return _tail(node.log).decode("utf-8", "replace")

    def _signal(self, number: int, sign: signal.Signals) -> None:
        process = self._nodes[number - 1].process
        assert process is not None
        os.killpg(process.pid, sign)


@dataclass(slots=True)
class _Node:
    number: int
    ports: dict[str, int]
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def settings(self) -> Path:
        return self.folder / "server.properties"

    @property
    def log(self) -> Path:
        return self.folder / "log"


def _answers(port: int) -> bool:
    """Whether a broker there tells which requests it knows: it does so when it is ready for all of them."""
    api_versions = struct.pack(">ihhih", 10, 18, 0, 1, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(api_versions)
            return bool(connection.recv(4))
    except OSError:
        return False


def _tail(path: Path) -> bytes:
    return path.read_bytes()[-4000:]


@functools.cache
def jars() -> Path:
    """The folder with all of them."""
    return fetched("kafka", _POM, _COPY)


def fetched(name: str, pom: Path, goal: str) -> Path:
    """The folder with what this pom names. It is renamed when it is complete, so that half of it is never used."""
    if shutil.which("java") is None:
        pytest.skip(f"no Java runtime here to start {name} with: `make system` installs it")
    if shutil.which("mvn") is None:
        pytest.skip(f"no Maven here to fetch {name} with: `make system` installs it")
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    complete = Path(sys.prefix) / f"{name}-{digest}"
    if not complete.is_dir():
        part = Path(tempfile.mkdtemp(prefix=f"{name}-part-", dir=sys.prefix))
        # Else what it unpacked is noted beside the pom.
        notes = f"-DmarkersDirectory={part}/.fetched"
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(pom), goal, f"-DoutputDirectory={part}", notes],
            capture_output=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            shutil.rmtree(part)
            pytest.skip(f"Maven could not fetch {name}")
        try:
            part.rename(complete)
        except OSError:
            # Another run was quicker.
            shutil.rmtree(part)
    return complete


def _quickest() -> str | None:
    memory = "/dev/shm"
    if not os.access(memory, os.W_OK):
        return None
    room = os.statvfs(memory)
    return memory if room.f_bavail * room.f_frsize > 2 << 30 else None


def die_with_the_parent() -> None:
    """Also when the test run is killed. Where the system cannot, it ends only when the run ends by itself."""
    if sys.platform == "linux":
        parent_died = 1
        ctypes.CDLL(None).prctl(parent_died, signal.SIGKILL)
