"""Archives that somebody else has made: no file leaves its folder, none is believed, no memory is taken on a word."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from podlt.errors import PodltError, StorageError, UsageError
from podlt.store import archive as a
from podlt.store.archive import ArchiveWriter, is_plain, unpack

RUN = bytes(32)


def packed(folder: Path, **files: bytes) -> Path:
    """A sound archive of some files."""
    source, target = folder / "source", folder / "a.tar"
    source.mkdir()
    with target.open("wb") as out:
        writer = ArchiveWriter(out)
        for name, data in files.items():
            (source / name).write_bytes(data)
            writer.add(f"deep/{name}", source / name)
        writer.finish(RUN, 1, 0)
    return target


def unpacked(path: Path) -> Path:
    target = path.parent / "unpacked"
    target.mkdir()
    unpack(path, target)
    return target


def test_what_was_packed_is_unpacked_and_tar_can_read_it(tmp_path: Path) -> None:
    files = {"one": b"1" * 511, "two": b"", "three": bytes(3 * 2**20 + 1)}
    path = packed(tmp_path, **files)
    (tmp_path / "source" / "one").chmod(0o600)
    target = unpacked(path)
    assert {name: (target / "deep" / name).read_bytes() for name in files} == files
    with tarfile.open(path) as tar:
        assert tar.getnames() == [*(f"deep/{name}" for name in files), "manifest.json"]
        member = tar.extractfile("deep/one")
        assert member is not None and member.read() == files["one"]


def test_secrets_stay_their_owners(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"k")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "open").write_bytes(b"o")
    (tmp_path / "open").chmod(0o664)
    with (tmp_path / "a.tar").open("wb") as out:
        writer = ArchiveWriter(out)
        writer.add("key", tmp_path / "key")
        writer.add("open", tmp_path / "open")
        writer.finish(RUN, 1, 0)
    target = unpacked(tmp_path / "a.tar")
    assert [(target / name).stat().st_mode & 0o777 for name in ("key", "open")] == [0o600, 0o644]


def test_every_changed_byte_and_every_cut_is_found(tmp_path: Path) -> None:
    path = packed(tmp_path, one=b"1" * 300, two=b"2" * 700)
    sound = path.read_bytes()
    sound_manifest = unpack(path, fresh(tmp_path, 10**7))
    # The manifest's trailing zeros and the padding say nothing; the rest is looked at, at every seventh byte.
    spoken = [i for i, byte in enumerate(sound) if byte]
    for number, position in enumerate(spoken[::7]):
        path.write_bytes(sound[:position] + bytes([sound[position] ^ 1]) + sound[position + 1 :])
        try:
            found = unpack(path, fresh(tmp_path, number))
        except (StorageError, UsageError):
            continue
        # What the manifest says of the log in it: `restore` compares that with the log.
        assert (found.run, found.entries, found.rounds) != (RUN.hex(), 1, 0) and found.files == sound_manifest.files
    for number, length in enumerate(range(0, len(sound) - 1024 - 512, 97)):
        path.write_bytes(sound[:length])
        with pytest.raises((StorageError, UsageError)):
            unpack(path, fresh(tmp_path, 10**6 + number))


def fresh(tmp_path: Path, number: int) -> Path:
    folder = tmp_path / f"fresh{number}"
    folder.mkdir()
    return folder


def test_a_file_that_only_grows_is_packed_as_long_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "figures"
    path.write_bytes(b"a line\n")
    with (tmp_path / "a.tar").open("wb") as out:
        writer = ArchiveWriter(Growing(out, path))
        writer.add("figures", path)
        writer.finish(RUN, 1, 0)
    assert (unpacked(tmp_path / "a.tar") / "figures").read_bytes() == b"a line\n"
    assert path.read_bytes() != b"a line\n"


class Growing(io.RawIOBase):
    """Passes writes on, while somebody appends to the source."""

    def __init__(self, out: io.BufferedWriter, source: Path) -> None:
        self._out, self._source = out, source

    def write(self, data: bytes) -> int:  # type: ignore[override]
        with self._source.open("ab") as source:
            source.write(b"another\n")
        return self._out.write(data)


def member(name: str, data: bytes = b"x", **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)


HOSTILE = {
    "up": member("../escaped"),
    "deep up": member("a/../../escaped"),
    "from the root": member("/tmp/podlt-escaped"),
    "a backslash": member("a\\..\\escaped"),
    "hidden": member(".ssh"),
    "an empty part": member("a//b"),
    "a folder": member("folder", b"", type=tarfile.DIRTYPE),
    "a symbolic link": member("link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": member("link", b"", type=tarfile.LNKTYPE, linkname="../victim"),
    "a device": member("null", b"", type=tarfile.CHRTYPE),
    "a long name": member("n" * 200),
    "another encoding": member("é"),
    "a record of pax": member("pax", b"30 path=../escaped\n", type=tarfile.XHDTYPE),
    "a sparse file": member("sparse", b"", type=tarfile.GNUTYPE_SPARSE),
    "more than there is": member("huge", b"", size=2**40),
    "twice": member("same") + member("same"),
    "a file and a folder of one name": member("a") + member("a/b"),
    "a huge manifest": member("manifest.json", b"", size=2**40),
    "a manifest that is none": member("manifest.json", b"[]"),
    "a manifest in another form": member("manifest.json", b'{"files": []}'),
    "nothing": b"",
    "no tar": b"no tar file at all" * 1000,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_and_writes_nothing_outside(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(HOSTILE[what] + bytes(1024))
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    with pytest.raises(PodltError):
        unpack(path, inner)
    assert [p.name for p in (tmp_path / "outer").iterdir()] == ["inner"]
    assert not Path("/tmp/podlt-escaped").exists()
    assert all(p.is_file() and not p.is_symlink() for p in inner.rglob("*"))


def test_a_file_that_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path, one=b"1")
    path.write_bytes(member("more") + path.read_bytes())
    with pytest.raises(StorageError, match="its files are not those of its manifest"):
        unpacked(path)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path, one=b"1", two=b"2")
    monkeypatch.setattr(a, "MAX_FILES", 1)
    with pytest.raises(StorageError, match="more than 1 files"):
        unpacked(path)
    with pytest.raises(StorageError, match="at most 1"):
        packed(fresh(tmp_path, 1), one=b"1", two=b"2")


def test_a_disk_that_is_too_small_is_seen_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path, one=b"1")
    room = type("Room", (), {"f_blocks": 9, "f_bavail": 1, "f_frsize": 512})
    statvfs: Callable[..., object] = lambda _: room  # noqa: E731
    monkeypatch.setattr("podlt.store.archive.os.statvfs", statvfs)
    with pytest.raises(StorageError, match=r"not enough space: .* got 512"):
        unpacked(path)
    assert list((tmp_path / "unpacked").iterdir()) == []


@pytest.mark.parametrize("name", ["log.db", "checkpoints/00000003.safetensors", "server/server.key", "a/b/c/d/e"])
def test_names_of_a_run_are_plain(name: str) -> None:
    assert is_plain(name)
    assert not is_plain(name + "/") and not is_plain("/" + name) and not is_plain(name + "\n")
