"""A bundle: what a stranger needs of a run in one file, of which no byte can be changed unseen, and no secret."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from near_hosts import train_near
from small_runs import seeded, tiny_recipe

from podlt.canonical import MAX_RECORD
from podlt.errors import InvalidProofError, StorageError, UsageError
from podlt.manager.directory import RunDirectory
from podlt.store.bundle import last_head, write_bundle
from podlt.store.bundle_reader import FORMAT, Bundle
from podlt.store.container import BLOCK, ContainerMember, ContainerWriter, header, read_container
from podlt.store.log_store import LogStore
from podlt.store.run_files import open_run_files


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run with a cheat."""
    run = tmp_path_factory.mktemp("bundled") / "the-run"
    train_near(run, tiny_recipe(workers=4), cheats=["1:zero"], entropy=seeded(5))
    return run


@pytest.fixture(scope="module")
def whole(trained: Path) -> bytes:
    """Its bundle, with updates."""
    out = trained.with_name("whole.podlt")
    write_bundle(trained, out, updates=True)
    return out.read_bytes()


@pytest.fixture
def written(whole: bytes, tmp_path: Path) -> Path:
    """The bundle, to spoil."""
    path = tmp_path / "run.podlt"
    path.write_bytes(whole)
    return path


def made(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    """A container of some members."""
    with path.open("wb") as file:
        writer = ContainerWriter(file)
        for name, data in members.items() if isinstance(members, dict) else members:
            with writer.member(name) as member:
                member.write(data)
        writer.finish()
    return path


NOTE = "podlt.run/x\n1\nroot\n\nsignature\n"
ENTRY = b"\x00\x00\x00\x01a"
LEAST = {"podlt-bundle": FORMAT, "log/entries": ENTRY, "log/heads": NOTE.encode()}


def test_a_bundle_gives_back_what_the_run_has(trained: Path, written: Path) -> None:
    with open_run_files(trained) as run, open_run_files(written) as files:
        with closing(run.log()) as log, closing(files.log()) as copy:
            entries, heads = list(log.entries()), log.heads()
            assert list(copy.entries()) == entries
            assert list(copy.entries(7)) == entries[7:]
            assert copy.heads() == heads
        for name in ("recipe.json", "program.json"):
            assert files.document(name) == (trained / name).read_bytes()
        for name, file in (("model.safetensors", files.model()), ("rounds.jsonl", files.unproven())):
            assert file is not None and file.read() == (trained / name).read_bytes()
            file.close()
        first = files.checkpoint(0)
        assert first is not None and first.read() == (trained / "checkpoints/00000000.safetensors").read_bytes()
        first.close()
        assert files.updates() == run.updates() != []
        assert all(files.update(round, 10**6) == run.update(round, 10**6) for round in files.updates())
        assert files.cheats() == run.cheats()
        assert list(files.cheats().values()) == ["zero"]


def test_a_bundle_is_the_same_whatever_it_was_made_from_and_when(trained: Path, written: Path, whole: bytes) -> None:
    os.utime(trained / "recipe.json", (1, 1))
    (trained / "recipe.json").chmod(0o600)
    for source in (trained, written):
        out = written.with_name("again")
        write_bundle(source, out, updates=True, force=True)
        assert out.read_bytes() == whole


def test_without_updates_it_has_neither_them_nor_the_first_parameters(trained: Path, tmp_path: Path) -> None:
    report = write_bundle(trained, tmp_path / "small")
    assert [member.name for member in report.members] == [
        "podlt-bundle",
        "log/entries",
        "log/heads",
        "recipe.json",
        "program.json",
        "model.safetensors",
        "unproven/rounds.jsonl",
        "unproven/cheats.json",
    ]
    assert report.size == (tmp_path / "small").stat().st_size
    assert not report.missing and not report.paths


def test_tar_lists_and_unpacks_it(whole: bytes, trained: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        model = tar.extractfile("model.safetensors")
        assert model is not None and model.read() == (trained / "model.safetensors").read_bytes()
        assert {(info.mode, info.uid, info.gid, info.uname, info.mtime) for info in tar} == {(0o644, 0, 0, "", 0)}


def test_no_key_no_setting_and_no_path_of_the_machine_is_in_it(trained: Path, whole: bytes) -> None:
    directory = RunDirectory(trained)
    chain = json.loads((trained / "manager.key").read_text())["chain"]
    for secret in (directory.manager_key().seed(), *directory.worker_seeds()):
        assert secret not in whole and secret.hex().encode() not in whole.lower()
    assert chain.encode() not in whole  # its bytes are what the last round of all revealed
    for path in (trained, trained.parent, Path.cwd(), Path.home(), Path("run.json"), Path("manager.key")):
        assert str(path).encode() not in whole
    assert b".key" not in whole and b'"base"' not in whole


def test_a_path_in_the_recipe_is_told(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("log.db", "program.json"):
        (run / name).write_bytes((trained / name).read_bytes())
    (run / "recipe.json").write_text('{"data":{"source":"/home/ada/secret.csv"},"x":["~/y","no/t",3]}')
    report = write_bundle(run, tmp_path / "out")
    assert report.paths == ["/home/ada/secret.csv", "~/y"]
    assert report.missing == ["model.safetensors"]


def outside_members(path: Path) -> list[int]:
    """The positions of all bytes that belong to no member: headers, padding, the end."""
    with path.open("rb") as file:
        inside: set[int] = set()
        for member in read_container(file):
            inside.update(range(member.offset, member.offset + member.size))
    return [position for position in range(path.stat().st_size) if position not in inside]


def test_each_changed_byte_of_the_container_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "one", LEAST | {"recipe.json": b"{}", "updates/00000003.bin": b"u" * 700})
    raw = path.read_bytes()
    with path.open("r+b", buffering=0) as file:  # one byte there and back: thousands of whole files take long to write
        for position in outside_members(path):
            for bit in (0x01, 0x80) if position % 8 == 0 else (1 << position % 8,):
                os.pwrite(file.fileno(), bytes([raw[position] ^ bit]), position)
                with pytest.raises(InvalidProofError) as caught:
                    open_run_files(path)
                assert caught.value.step == 1
            os.pwrite(file.fileno(), raw[position : position + 1], position)
    assert path.read_bytes() == raw


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_each_changed_byte_of_a_real_bundle_is_refused_or_seen(
    whole: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "changed"
    path.write_bytes(changed)
    try:
        with open_run_files(path) as files, closing(files.log()) as log:
            seen = [*log.entries(), *log.heads()]
    except InvalidProofError:
        return
    path.write_bytes(whole)
    with open_run_files(path) as files, closing(files.log()) as log:
        if seen != [*log.entries(), *log.heads()]:
            return
    with path.open("rb") as file:
        inside = [m.name for m in read_container(file) if m.offset <= position < m.offset + m.size]
    assert inside and not inside[0].startswith(("log/", "podlt-bundle"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_bundle_that_was_cut_off_or_goes_on_is_refused(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "cut"
    path.write_bytes(whole[: data.draw(st.integers(520, len(whole) - 1))])
    with pytest.raises(InvalidProofError):
        open_run_files(path)
    path.write_bytes(whole + bytes(data.draw(st.sampled_from([1, 512, 1024]))))
    with pytest.raises(InvalidProofError, match="two zero blocks"):
        open_run_files(path)


def swap(one: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return [("podlt-bundle", one["podlt-bundle"]), ("log/heads", one["log/heads"]), ("log/entries", one["log/entries"])]


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([*LEAST.items(), ("recipe.json", b"{}"), ("recipe.json", b"{}")], "twice"),
        (swap(LEAST), "not in its place"),
        ([*LEAST.items(), ("updates/00000002.bin", b""), ("updates/00000001.bin", b"")], "not in its place"),
        ([*LEAST.items(), ("run.json", b"{}")], "no bundle has a member"),
        ([*LEAST.items(), ("updates/2.bin", b"")], "no bundle has a member"),
        ([*LEAST.items(), ("checkpoints/00000007.safetensors", b"")], "no bundle has a member"),
        (list(LEAST.items())[:2], "log/heads: missing"),
        ([("podlt-bundle", b"podlt-bundle/2\n"), *list(LEAST.items())[1:]], "another format"),
        ([("podlt-bundle", FORMAT + b"x"), *list(LEAST.items())[1:]], "another format"),
    ],
)
def test_members_that_no_bundle_has_so_are_refused(
    tmp_path: Path, members: list[tuple[str, bytes]], reason: str
) -> None:
    with pytest.raises(InvalidProofError, match=reason):
        open_run_files(made(tmp_path / "odd", members))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\0b", "log/../../x", "réc"])
def test_a_name_that_leaves_the_folder_is_no_header(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / "odd", LEAST)
    block = bytearray(header("x" * len(name.encode()), 0))
    block[: len(name.encode())] = name.encode()
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path.write_bytes(path.read_bytes()[: -2 * BLOCK] + bytes(block) + bytes(2 * BLOCK))
    with pytest.raises(InvalidProofError, match="not in its one encoding"):
        open_run_files(path)


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 2**62, 2**80])
def test_a_size_beyond_the_file_is_refused_before_memory_is_taken(tmp_path: Path, size: int) -> None:
    path = made(tmp_path / "huge", LEAST)
    path.write_bytes(path.read_bytes()[: -2 * BLOCK] + header("recipe.json", size) + bytes(2 * BLOCK))
    tracemalloc.start()
    with pytest.raises(InvalidProofError, match="cut off"):
        open_run_files(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (b"\xff\xff\xff\xff", "longer than"),
        ((MAX_RECORD + 1).to_bytes(4, "big"), "longer than"),
        (b"\x00\x00\x00\x05abc", "cut off"),
        (ENTRY + b"\x00\x00", "cut off"),
    ],
)
def test_an_entry_of_a_false_length_is_refused(tmp_path: Path, entries: bytes, reason: str) -> None:
    with open_run_files(made(tmp_path / "odd", LEAST | {"log/entries": entries})) as files, closing(files.log()) as log:
        with pytest.raises(InvalidProofError, match=reason) as caught:
            list(log.entries())
        assert caught.value.step == 1


@pytest.mark.parametrize(
    ("notes", "reason"),
    [
        (NOTE + "more", "malformed"),
        (NOTE[:-1], "malformed"),
        (NOTE.replace("\n1\n", "\n01\n"), "malformed"),
        (NOTE.replace("\n1\n", "\n-1\n"), "malformed"),
        (NOTE.replace("\n1\n", "\n" + "9" * 30 + "\n"), "malformed"),
        (NOTE + NOTE, "out of order"),
        (NOTE.replace("1", "2") + NOTE, "out of order"),
        (NOTE.replace("root", "r" * 20_000), "malformed"),
    ],
)
def test_tree_heads_in_another_form_or_order_are_refused(tmp_path: Path, notes: str, reason: str) -> None:
    path = made(tmp_path / "odd", LEAST | {"log/heads": notes.encode()})
    with open_run_files(path) as files, closing(files.log()) as log, pytest.raises(InvalidProofError, match=reason):
        log.heads()


def test_heads_come_in_pages_and_from_any_size_on(tmp_path: Path) -> None:
    notes = [(size, NOTE.replace("\n1\n", f"\n{size}\n")) for size in range(3, 60, 3)]
    path = made(tmp_path / "many", LEAST | {"log/heads": "".join(note for _, note in notes).encode()})
    with open_run_files(path) as files, closing(files.log()) as log:
        assert log.heads() == notes
        assert log.heads(30) == [head for head in notes if head[0] > 30]
        assert log.heads(0, 2) == notes[:2]
        assert log.heads(6, 2) == notes[2:4]
        assert log.heads(4, 1) == notes[1:2]
        assert log.heads(57) == []
        assert log.heads() == notes
        assert last_head(log) == notes[-1][1]


def test_a_bundle_overwrites_nothing_unless_forced(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        write_bundle(trained, out)
    assert out.read_text() == "mine"
    write_bundle(trained, out, force=True)
    assert open_run_files(out).kind == "bundle"
    with pytest.raises(UsageError):
        write_bundle(trained, tmp_path, force=True)


def test_a_bundle_that_cannot_be_written_leaves_nothing(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write_bundle(trained, tmp_path / "no" / "where")
    with pytest.raises(UsageError):
        write_bundle(tmp_path / "nowhere", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def write_log(path: Path, batches: int) -> LogStore:
    """A log of two entries a batch."""
    store = LogStore.at(path, create=True)
    for batch in range(batches):
        add(store, 2 * batch)
    return store


def add(store: LogStore, first: int) -> None:
    store.append(first, [b"a%d" % first, b"b%d" % first], NOTE.replace("\n1\n", f"\n{first + 2}\n"))


def test_a_run_that_goes_on_is_bundled_up_to_a_head(tmp_path: Path) -> None:
    with closing(write_log(tmp_path / "log.db", 3)) as store:

        def progress(name: str, done: int, total: int) -> None:
            if name == "log/entries":
                add(store, 6)

        done = write_bundle(tmp_path / "log.db", tmp_path / "out", progress=progress)
        assert [size for size, _ in store.heads()] == [2, 4, 6, 8]
    with open_run_files(tmp_path / "out") as files, closing(files.log()) as log:
        assert [size for size, _ in log.heads()] == [2, 4, 6]
        assert len(list(log.entries())) == done.entries == 6
    assert done.missing == ["model.safetensors", "program.json", "recipe.json"]


def test_a_log_with_a_missing_entry_or_none_at_all_is_not_bundled(tmp_path: Path) -> None:
    LogStore.at(tmp_path / "empty.db", create=True).close()
    with pytest.raises(UsageError, match="not begun"):
        write_bundle(tmp_path / "empty.db", tmp_path / "out")
    with closing(write_log(tmp_path / "log.db", 3)) as store:
        store._connection.exec_driver_sql("delete from entries where number = 3")
        store._connection.commit()
    with pytest.raises(InvalidProofError, match="entry 3: the entry is missing"):
        write_bundle(tmp_path / "log.db", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_member_beyond_8_gib_is_read_from_where_it_lies(tmp_path: Path) -> None:
    path, size = tmp_path / "large", 9 * 2**30
    made(path, LEAST)
    with path.open("r+b") as file:  # a file with holes: it takes no room on the disk
        file.seek(-2 * BLOCK, os.SEEK_END)
        file.write(header("model.safetensors", size))
        file.seek(size - 3, os.SEEK_CUR)
        file.write(b"end")
        file.write(bytes(2 * BLOCK))
    with open_run_files(path) as files:
        model = files.model()
        assert model is not None
        with model:
            model.seek(-3, os.SEEK_END)
            assert (model.tell(), model.read()) == (size - 3, b"end")
    with tarfile.open(path) as tar:
        assert tar.getmember("model.safetensors").size == size


def test_members_stay_open_when_the_bundle_is_closed(written: Path, trained: Path) -> None:
    bundle = Bundle(written)
    one, two, log = bundle.open("model.safetensors"), bundle.open("model.safetensors"), bundle.log()
    bundle.close()
    assert one is not None and two is not None
    one.seek(10)
    raw = (trained / "model.safetensors").read_bytes()
    assert (two.read(), one.read()) == (raw, raw[10:])
    assert len(list(log.entries())) > 3
    for file in (one, two, log):
        file.close()


def test_a_container_says_where_its_members_lie(tmp_path: Path) -> None:
    path = made(tmp_path / "two", {"a": b"12345", "b/c": b""})
    with path.open("rb") as file:
        assert list(read_container(file)) == [ContainerMember("a", 512, 5), ContainerMember("b/c", 1536, 0)]
