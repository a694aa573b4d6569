"""The cache: issue 2, items 3, 11 and 12 (kept, killed at any moment, damaged, on a full disk)."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from podlt.data.cache import default_cache
from podlt.data.describe import describe
from podlt.data.prepare import prepare
from podlt.data.spec import DataSpec, from_document
from podlt.errors import DataError, StorageError, UsageError

SPEC = DataSpec("data.npz", inputs=("x",), label="y", test_fraction=0.2)


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(500, 8)), y=rng.integers(0, 4, 500))
    return tmp_path


def run(source, spec=SPEC, **options):
    stages = []
    prepared = prepare(
        spec, cache=source / "cache", base=source, progress=lambda stage, *_: stages.append(stage), **options
    )
    return prepared, stages


def cached(source):
    return [path for path in (source / "cache" / "prepared").iterdir() if path.is_dir()]


def test_a_second_time_is_read_from_the_cache_with_the_same_root(source):
    first, built = run(source)
    again, opened = run(source)
    assert again.train.root == first.train.root and again.test.root == first.test.root
    assert "preparing" in built and "preparing" not in opened


def test_the_cache_knows_the_content_and_not_the_name(source):
    run(source)
    shutil.copy(source / "data.npz", source / "other.npz")
    _, stages = run(source, DataSpec("other.npz", inputs=("x",), label="y", test_fraction=0.2))
    assert "preparing" not in stages
    np.savez(source / "data.npz", x=np.zeros((500, 8)), y=np.zeros(500, int))
    prepared, stages = run(source)
    assert "preparing" in stages and not prepared.train.read(np.arange(3))["x"].any()


def test_another_option_is_another_entry(source):
    run(source)
    prepared, stages = run(source, DataSpec("data.npz", inputs=("x",), label="y", test_fraction=0.4))
    assert "preparing" in stages and prepared.train.examples == 300


@pytest.mark.parametrize("name", ["train/x.bin", "test/y.bin", "train/leaves.bin", "train/meta.json", "contents.json"])
@pytest.mark.parametrize("harm", ["flipped", "shorter", "gone"])
def test_a_damaged_cache_is_built_again(source, name, harm):
    whole, _ = run(source)
    path = cached(source)[0] / name
    data = path.read_bytes()
    path.unlink()
    if harm != "gone":
        middle = len(data) // 2
        path.write_bytes(data[:-1] if harm == "shorter" else data[:middle] + b"~" + data[middle + 1 :])
    again, stages = run(source)
    assert "preparing" in stages
    assert (again.train.root, again.test.root) == (whole.train.root, whole.test.root)
    again.train.check()


def test_a_lost_test_part_is_not_taken_for_none(source):
    run(source)
    shutil.rmtree(cached(source)[0] / "test")
    assert run(source)[0].test.examples == 100


def test_a_fault_leaves_nothing_behind(source):
    np.savez(source / "data.npz", x=np.full((500, 8), np.nan), y=np.zeros(500, int))
    with pytest.raises(DataError, match=r"data\.npz, line 1"):
        run(source)
    assert cached(source) == []


def child(source, body):
    """Prepares in a process of its own, after `body` changed something there."""
    script = f"""
        import os, resource, signal
        from pathlib import Path
        import podlt.data.writer as writer
        from podlt.data.prepare import prepare
        from podlt.data.spec import DataSpec, from_document
        from podlt.errors import StorageError
        base = Path({str(source)!r})
        spec = DataSpec("data.npz", inputs=("x",), label="y", test_fraction=0.2)
        def go():
            return prepare(spec, cache=base / "cache", base=base)
    """
    program = textwrap.dedent(script) + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


KILLERS = {
    "before the first line": "writer.DatasetWriter.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)",
    "between the parts": """
        finish, count = writer.DatasetWriter.finish, iter(range(2))
        def once(self, info):
            if next(count):
                os.kill(os.getpid(), signal.SIGKILL)
            return finish(self, info)
        writer.DatasetWriter.finish = once
        """,
    "before the rename": "Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("moment", KILLERS)
def test_a_kill_at_any_moment_leaves_no_half_cache(source, moment):
    died = child(source, textwrap.dedent(KILLERS[moment]) + "\ngo()\n")
    assert died.returncode == -signal.SIGKILL, died.stderr
    left = cached(source)
    assert [path.suffix for path in left] == [".partial"]
    prepared, _ = run(source)
    assert (prepared.train.examples, prepared.test.examples) == (400, 100)
    assert [path.suffix for path in cached(source)] == [""]


def test_a_full_disk_is_a_storage_error_and_no_half_cache(source):
    body = """
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        try:
            go()
        except StorageError as error:
            print(error)
    """
    done = child(source, body)
    assert ".bin" in done.stdout or "File too large" in done.stdout, done.stderr
    assert cached(source) == []
    assert run(source)[0].train.examples == 400


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_a_storage_error(source):
    (source / "cache").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="cache"):
        run(source)


def test_two_processes_that_prepare_the_same_set_agree(source):
    def start():
        command = [sys.executable, "-c", textwrap.dedent(RACE), str(source)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    racers = [start(), start()]
    roots = {racer.communicate(timeout=60)[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0, 0]
    assert roots == {run(source)[0].train.root.hex() + "\n"}


RACE = """
    import sys
    from pathlib import Path
    from podlt.data.prepare import prepare
    from podlt.data.spec import DataSpec, from_document
    base = Path(sys.argv[1])
    spec = DataSpec("data.npz", inputs=("x",), label="y", test_fraction=0.2)
    print(prepare(spec, cache=base / "cache", base=base).train.root.hex())
"""


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        (DataSpec("none.csv", label="y"), DataError, "none.csv: no such file"),
        (DataSpec("folder.csv", label="y"), DataError, "folder.csv: expected files in this folder, got none"),
        (DataSpec("data.npy"), UsageError, "expected a file .*or a named set .*mnist"),
        (DataSpec("data.npz", inputs=("x",), header=False), UsageError, "unsupported options for a .npz file: header"),
        (
            DataSpec("digits", label="y", scale=1.0),
            UsageError,
            "unsupported options for the named set digits: label, scale",
        ),
        (DataSpec("data.npz", test="t.csv", inputs=("x",)), UsageError, "expected a .npz file as test"),
        (DataSpec("data.npz", test="t.npz", test_fraction=0.1), UsageError, "only one of test and test_fraction"),
        (DataSpec("data.npz", test="t.npz", inputs=("x",)), DataError, "t.npz: no such file"),
        (DataSpec("data.npz", inputs=("x",), limit=-1), UsageError, "data: limit: expected a whole number >= 1"),
        (DataSpec("data.npz", inputs=("x",), classes=("a", "a")), UsageError, "expected different names as classes"),
    ],
)
def test_what_cannot_be_prepared_is_refused_by_name(source, spec, kind, message):
    (source / "folder.csv").mkdir()
    with pytest.raises(kind, match=message):
        run(source, spec)


def test_the_data_table_of_a_recipe_is_a_spec():
    text = """
        source = "people.csv"
        header = false
        label = 41
        categorical = [1, "two"]
        classes = ["no", "yes"]
    """
    spec = msgspec.convert(tomllib.loads(text), DataSpec)
    assert spec == DataSpec("people.csv", header=False, label=41, categorical=(1, "two"), classes=("no", "yes"))
    assert spec.changed() == {"header", "label", "categorical", "classes"}


@pytest.mark.parametrize("source", ["a.csv", "a.npz"])
@pytest.mark.parametrize("options", [{}, {"standardise": True}, {"standardise": False}, {"missing": "drop", "seed": 3}])
def test_a_spec_comes_back_from_its_document_with_the_same_meaning(source, options):
    spec = DataSpec(source, **options)
    again = msgspec.convert(from_document(spec.to_document()), DataSpec)
    assert again.to_document() == spec.to_document()
    assert again == spec or (source == "a.csv" and (spec.standardise, again.standardise) == (True, None))


@pytest.mark.parametrize("standardise", [[], 7, "yes"])
def test_a_malformed_document_of_a_spec_is_refused(standardise):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(from_document({"source": "a.csv", "standardise": standardise}), DataSpec)
    assert from_document(3) == 3


def test_the_document_of_a_spec_of_old_is_as_it_was():
    assert DataSpec("a.npz").to_document()["standardise"] is True
    assert not DataSpec("a.csv").to_document().keys() & {"missing", "seed", "split", "dates", "validation_fraction"}
    assert DataSpec("a.csv", missing="mean").to_document()["missing"] == "mean"


@pytest.mark.parametrize(
    "text", ["sauce = 1", "", "source = ''", "source = 'a'\ntest_fraction = 1.0", "source = 'a'\nlabel = -1"]
)
def test_a_malformed_data_table_is_refused(text):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(tomllib.loads(text), DataSpec)


def test_the_cache_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("PODLT_CACHE", "/somewhere/else")
    assert default_cache() == Path("/somewhere/else")
    monkeypatch.delenv("PODLT_CACHE")
    assert default_cache() == Path.home() / ".cache" / "podlt"


def test_digits_need_no_download_and_never_change(tmp_path):
    prepared = prepare(DataSpec("digits"), cache=tmp_path)
    assert (prepared.train.examples, prepared.test.examples) == (1437, 360)
    assert prepared.train.root.hex() == "34b7c4f46e5ec3131f839c9e07cf880f2fc978e55432e8a24e27dbd7a2072d9c"
    assert prepared.train.fields[0].scale == 1 / 16
    assert len(prepared.train.info["classes"]) == 10


def test_a_description_tells_what_a_person_asks_first(source):
    text = describe(run(source)[0])
    assert "400 examples to train on, 100 to test on" in text
    assert "x: f32[8]" in text and "classes: 4 (0, 1, 2, 3)" in text
    assert run(source)[0].train.root.hex() in text
