"""A run's directory: everything of one run, each file there whole or not at all; `store.run_names` has their names."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from podlt import canonical
from podlt.crypto import HashChain, SigningKey
from podlt.errors import InvalidProofError, StorageError, UsageError
from podlt.store import run_names as names
from podlt.store.files import read_whole, write_whole
from podlt.store.log_store import LogStore
from podlt.store.run_json import read_section, write_section
from podlt.store.run_log import has_log, open_run_log

MAX_DOCUMENT = 16 * 2**20
MAX_REASON = 4096

FEW_SECRETS, MANY_SECRETS = 10_000, 250_000
"""Secrets beyond those that the first entry promises: nine times as many and a few, but never more than many."""

Entropy = Callable[[int], bytes]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run needs in addition to its recipe and is no part of the proof: processes, simulated cheats, where from.

    Args:
        processes: how many processes host workers; 0 for one a core.
        cheats: worker number -> what it does (`podlt.execution.adversary`).
        base: the folder that relative paths of the recipe start from.
        code: the folder of the user's modules; "" for `base`.
        source: the file of the data, absolute; "" if it lies where the recipe says, from `base`.
        test: the same for the test file.
        engine: where the workers are.
        address: of the engine `ray`: the cluster.
        resources: what an actor of `ray` takes in addition to a core.
        store: the address of the database that the log is in (`podlt.store.address`), "" for log.db.
    """

    processes: int = 0
    cheats: dict[str, str] = {}
    base: str = ""
    code: str = ""
    source: str = ""
    test: str = ""
    engine: str = "local"
    address: str = ""
    resources: dict[str, float] = {}
    store: str = ""


Secret = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class _ManagerSecrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What manager.key holds."""

    chain: Secret
    key: Secret


class _WorkerSecrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What workers.key holds, by the workers' numbers."""

    keys: list[Secret]


S = TypeVar("S", _ManagerSecrets, _WorkerSecrets)


class RunDirectory:
    """The files of one run.

    Args:
        path: the directory; see `new` and `existing`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._chain: HashChain | None = None

    @classmethod
    def new(cls, path: Path) -> RunDirectory:
        """A directory for a new run; `make` makes it. What was left before a first entry was written may be there.

        Raises:
            UsageError: there is something else already.
        """
        if path.exists():
            if cls(path).has_entries():
                raise UsageError(
                    f"{path}: there is a run already; resume it with --resume {path} (in Python: podlt.resume), or "
                    "choose another directory"
                )
            early = path.is_dir() and all(p.name in names.EARLY or p.suffix == ".part" for p in path.iterdir())
            if not early or cls(path).was_trained():
                raise UsageError(f"{path}: there is something already, and it is no run: choose another directory")
        return cls(path)

    def make(self) -> None:
        """Makes the folders.

        Raises:
            StorageError: they cannot be made.
        """
        try:
            for folder in (self.path, self.checkpoints, self.updates):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be made: {error.strerror}") from None

    @classmethod
    def existing(cls, path: Path) -> RunDirectory:
        """A run directory that is there.

        Raises:
            UsageError: it is none.
        """
        if not (path / names.RECIPE).is_file():
            raise UsageError(f"{path}: no run here (expected a directory that `podlt train` made)")
        return cls(path)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / names.CHECKPOINTS

    @property
    def updates(self) -> Path:
        """The folder of the averaged updates."""
        return self.path / names.UPDATES

    @property
    def model(self) -> Path:
        """The trained module's state."""
        return self.path / names.MODEL

    @property
    def best(self) -> Path:
        """The parameters that were the best by the recipe's figure."""
        return self.path / names.BEST

    @property
    def cosignatures(self) -> Path:
        """What witnesses signed."""
        return self.path / names.COSIGNATURES

    def update(self, round: int) -> Path:
        """The averaged update of a round."""
        return self.path / names.update(round)

    def checkpoint(self, rounds: int) -> Path:
        """Parameters and optimiser after so many training rounds."""
        return self.path / names.checkpoint(rounds)

    def lock(self) -> None:
        """Keeps a second manager out, for as long as this process lives.

        Raises:
            UsageError: another process works on the run.
        """
        if self._lock is not None:
            return
        self._lock = os.open(self.path / names.LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = None
            raise UsageError(
                f"{self.path}: another process works on this run: stop it first, or wait until it ends"
            ) from None

    def is_locked(self) -> bool:
        """Whether a process works on the run."""
        try:
            descriptor = os.open(self.path / names.LOCK, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def unlock(self) -> None:
        """Lets others in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def request_finish(self, reason: str) -> None:
        """Asks the process that works on the run to end it after the round in progress."""
        write_whole(self.path / names.FINISH, reason.encode())

    def finish_request(self) -> str | None:
        """Why the run is to end, if somebody asked for it."""
        path = self.path / names.FINISH
        return read_whole(path, MAX_REASON).decode(errors="replace") if path.is_file() else None

    def drop_finish_request(self) -> None:
        """Forgets the request: it was answered, or is not wanted any more."""
        (self.path / names.FINISH).unlink(missing_ok=True)

    def log(self, *, create: bool = False) -> LogStore:
        """The run's log: log.db, or in the database that the settings name."""
        return open_run_log(self.path, create=create)

    def has_entries(self) -> bool:
        """Whether anything was logged."""
        if not has_log(self.path):
            return False
        with closing(self.log(create=True)) as store:
            return next(store.entries(), None) is not None

    def was_trained(self) -> bool:
        """Whether a round left anything here: none does before the log's first entries are on the disk."""
        figures = (self.path / names.ROUNDS, self.model)
        later = (p for p in self.checkpoints.glob("*.safetensors") if p != self.checkpoint(0))
        return any(p.exists() for p in figures) or any(self.updates.glob("*")) or any(later)

    def write_document(self, name: str, raw: bytes) -> None:
        """Writes recipe.json or program.json."""
        write_whole(self.path / name, raw)

    def document(self, name: str) -> bytes:
        """The bytes of recipe.json or program.json."""
        return read_whole(self.path / name, MAX_DOCUMENT)

    def write_settings(self, settings: Settings) -> None:
        """Keeps the settings for a resume."""
        write_section(self.path, "settings", settings)

    def settings(self) -> Settings:
        """The settings that the run was started with, and where its files were found since.

        Raises:
            StorageError: there are none, or the file is malformed.
        """
        found = read_section(self.path, "settings", Settings)
        if found is None:
            raise StorageError(f"{self.path / names.RUN}: no settings of a run; the run's directory was changed")
        return found

    def make_keys(self, workers: int, entropy: Entropy, *, exactly: bool = False) -> None:
        """Makes the manager's secrets and the keys of this machine's workers; existing ones stay.

        Args:
            exactly: whether no more workers' keys stay than these: before the first entry nobody has joined by them.
        """
        # As many draws whatever is there already: what is drawn next does not depend on when a run was killed.
        chain, key, *fresh = [entropy(32) for _ in range(2 + workers)]
        if not (self.path / names.MANAGER_KEY).exists():
            self._write_secrets(names.MANAGER_KEY, _ManagerSecrets(chain=chain.hex(), key=key.hex()))
        seeds = self.worker_seeds() if (self.path / names.WORKERS_KEY).exists() else []
        missing = fresh[len(seeds) :]
        excess = seeds[workers:] if exactly else []
        seeds = seeds[: len(seeds) - len(excess)]
        if missing or excess or not seeds:
            self._write_secrets(names.WORKERS_KEY, _WorkerSecrets(keys=[seed.hex() for seed in [*seeds, *missing]]))

    def manager_key(self) -> SigningKey:
        """The key that signs the tree heads."""
        return SigningKey(bytes.fromhex(self._secrets(names.MANAGER_KEY, _ManagerSecrets).key))

    def chain(self, length: int) -> HashChain:
        """The manager's chain of so many secrets, and more in case that the run is amended to take more rounds.

        Made once, as it takes a second for each million.
        """
        made = length + min(9 * length + FEW_SECRETS, MANY_SECRETS)
        if self._chain is None or self._chain.length != made:
            self._chain = HashChain(bytes.fromhex(self._secrets(names.MANAGER_KEY, _ManagerSecrets).chain), made)
        return self._chain

    def worker_seeds(self) -> list[bytes]:
        """The private keys of this machine's workers, by number."""
        return [bytes.fromhex(seed) for seed in self._secrets(names.WORKERS_KEY, _WorkerSecrets).keys]

    def _write_secrets(self, name: str, secrets: _ManagerSecrets | _WorkerSecrets) -> None:
        write_whole(self.path / name, canonical.to_json(msgspec.to_builtins(secrets)), mode=0o600)

    def _secrets(self, name: str, kind: type[S]) -> S:
        """Raises: StorageError: the file is not what this program writes; its content is never shown."""
        raw = read_whole(self.path / name, MAX_DOCUMENT)
        try:
            return msgspec.convert(canonical.from_json(raw), kind)
        except (msgspec.ValidationError, InvalidProofError):
            raise StorageError(f"{self.path / name}: malformed; the run's directory was changed") from None
