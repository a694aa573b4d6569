"""Which log a run's directory has: `log.db` in it, or the database that its settings name."""

from __future__ import annotations

from pathlib import Path

from podlt.canonical import from_json
from podlt.errors import InvalidProofError
from podlt.store.address import parse, require_known
from podlt.store.files import read_whole
from podlt.store.log_store import LogStore

FILE = "log.db"
SETTINGS = "settings.json"
_MAX_SETTINGS = 2**20


def store_of(run: Path) -> str:
    """The address of the database that a run's log is in; "" if it is in the run's directory.

    A log that lies in the directory is the run's, whatever the settings say.

    Raises:
        StorageError: the settings cannot be read.
    """
    path = run / SETTINGS
    if (run / FILE).exists() or not path.is_file():
        return ""
    try:
        document = from_json(read_whole(path, _MAX_SETTINGS))
    except InvalidProofError:
        return ""  # whoever needs the settings says what is wrong with them
    address = document.get("store", "") if isinstance(document, dict) else ""
    return address if isinstance(address, str) else ""


def has_log(run: Path) -> bool:
    """Whether there is a log in the directory, or the settings name a database for it, which is not asked."""
    return (run / FILE).is_file() or bool(store_of(run))


def open_run_log(run: Path, *, create: bool = False, readonly: bool = False) -> LogStore:
    """A run's log. Arguments as those of `LogStore`.

    Raises:
        StorageError: there is none, or it cannot be opened; InvalidProofError: it is no log of this format;
        UsageError: it is in a database that nobody has named here, or of another version.
    """
    address = store_of(run)
    if not address:
        return LogStore.at(run / FILE, create=create, readonly=readonly)
    require_known(parse(address))
    return LogStore(address, create=create, readonly=readonly)
