"""What a run was made of, by digests that a stranger can work out from the original files, as far as there are any.

A log binds a run's data by a digest over the prepared examples. That proves much to who has podlt, and says nothing to
who has only the files. So the files are looked for, prepared again, and compared with the log; only then their SHA-256
is stated.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from podlt.attestation.envelope import Document
from podlt.errors import PodltError, UsageError
from podlt.protocol import entries as e
from podlt.store.run_files import RunFiles

if TYPE_CHECKING:
    from podlt.data.prepare import Prepared
    from podlt.data.spec import DataSpec
    from podlt.recipe import Recipe

_OBJECT = re.compile(r"[0-9a-f]{40}\.(parquet|npz)")
"""How podlt calls the file to which it writes data that a Python program held (`podlt.data.objects`)."""

_HUB = re.compile(r"(models|datasets|spaces)--([^/]+)/snapshots/([0-9a-f]{40})(?:/|$)")
"""Where the cache of Hugging Face's libraries keeps a revision of a repository."""

_CROISSANT = ("croissant.json", "metadata.json")
_LONGEST = 16 * 2**20
_MOST_FILES = 1000
"""Of a source that has more files, the list of their digests is digested."""


class Dependency(msgspec.Struct, frozen=True):
    """Something that the model was made of.

    Attributes:
        descriptor: the resource descriptor, as in-toto has it.
        unknown: what nobody can check of it by public digests, for a person; "" if all can be.
    """

    descriptor: Document
    unknown: str = ""


def data_dependencies(
    recipe: Recipe, begin: e.Begin, files: RunFiles, cache: Path | None, given: Path | None
) -> list[Dependency]:
    """The run's data: files by SHA-256, or a note that they are not known.

    Args:
        recipe: the run's.
        begin: its first entry, which the data must be of.
        files: the run; a directory's settings may say where its data were.
        cache: of prepared data.
        given: where the user says that the data are, else they are looked for as the audit does.
    """
    bound = {"trainingExamples": begin.examples, "preparedTraining": begin.data.hex()}
    if begin.test != e.NO_TEST:
        bound["preparedTest"] = begin.test.hex()
    try:
        found, why = _found(recipe, begin, files, cache, given)
    except ImportError as error:
        found, why = [], f"preparing them again needs {error.name}: pip install '.[train]'"
    except PodltError as error:
        found, why = [], str(error)
    if found:
        first = found[0]
        noted = {**first.descriptor, "annotations": {**first.descriptor.get("annotations", {}), **bound}}
        return [msgspec.structs.replace(first, descriptor=noted), *found[1:]]
    reason = f"data {recipe.data.source}: no public digest: {why}"
    return [Dependency({"name": f"data/{recipe.data.source}", "annotations": {**bound, "notKnown": reason}}, reason)]


def declared(texts: list[str]) -> list[Dependency]:
    """Dependencies that the signer names: URI, or URI=sha256:HEX, such as hf://bert-base-uncased@REVISION.

    Raises:
        UsageError: one is no URI.
    """
    found = []
    for text in texts:
        uri, equals, digest = text.partition("=sha256:")
        if not re.match(r"[a-z][a-z0-9+.-]*:", uri) or (equals and not re.fullmatch("[0-9a-f]{64}", digest)):
            raise UsageError(f"--depends {text}: expected URI or URI=sha256:HEX, such as hf://ORG/NAME@REVISION")
        descriptor: Document = {
            "uri": uri,
            "annotations": {"declared": "by the signer; podlt compared it with nothing"},
        }
        if digest:
            descriptor["digest"] = {"sha256": digest}
        found.append(Dependency(descriptor))
    return found


def _found(
    recipe: Recipe, begin: e.Begin, files: RunFiles, cache: Path | None, given: Path | None
) -> tuple[list[Dependency], str]:
    from podlt.data.named import NAMED
    from podlt.data.prepare import prepare
    from podlt.manager.data_source import at_path, candidates, folders_of, nowhere, refuse_named
    from podlt.manager.directory import RunDirectory, Settings

    if given is not None:
        refuse_named(recipe.data)
    if recipe.data.source in NAMED:
        if not _is_of(prepare(recipe.data, cache), begin):
            return [], f"the named set {recipe.data.source} is not what the run was trained on"
        return _named(recipe.data.source), ""
    if given is not None:
        places = iter([at_path(recipe.data, given)])
        nothing = str(given)
    else:
        settings = RunDirectory(files.path).settings() if files.kind == "directory" else Settings()
        folders = folders_of(files.path, settings)
        places, nothing = candidates(recipe.data, settings, folders), nowhere(settings, folders)
    why = nothing
    for place in places:
        prepared = place.prepared(recipe.data, cache, None)
        if not _is_of(prepared, begin):
            why = f"what is at {place.source} is not what the run was trained on"
            continue
        tests = _described(place.test, "test") if place.test else []
        return [*_described(place.source, "data"), *tests, *_tokenizer(recipe.data, place.source)], ""
    return [], why


def _tokenizer(spec: DataSpec, source: Path) -> list[Dependency]:
    """The tokenizer's file, where texts were made tokens by one: the prepared examples were found to be the run's."""
    if spec.tokenizer is None:
        return []
    from podlt.data.fetch import file_sha256
    from podlt.data.tokenizer import find_tokenizer

    path = find_tokenizer(msgspec.structs.replace(spec, source=str(source)), Path())
    return [Dependency(_descriptor(f"tokenizer/{path.name}", path, file_sha256(path), {}))]


def _is_of(prepared: Prepared, begin: e.Begin) -> bool:
    test = prepared.test.digest if prepared.test is not None else e.NO_TEST
    return (prepared.train.digest, prepared.train.examples, test) == (begin.data, begin.examples, begin.test)


def _named(name: str) -> list[Dependency]:
    """A named set: the package that it is fetched from, pinned by its digest, and the files in it."""
    from podlt.data.named import NAMED

    package = NAMED[name].package
    if package is None:
        note = "data digits: they come with scikit-learn, whose package is not pinned: no public digest"
        digits = {"name": "data/digits", "uri": "pkg:pypi/scikit-learn", "annotations": {"notKnown": note}}
        return [Dependency(digits, note)]
    kind = {"npm": "npm", "apt": "deb/debian", "pip": "pypi"}[package.client]
    uri = f"pkg:{kind}/{package.requirement.replace('==', '@').replace('=', '@')}"
    archive = {"name": f"data/{name}", "uri": uri, "digest": {"sha256": package.sha256}}
    members = [
        Dependency({"name": f"data/{name}/{m.name}", "digest": {"sha256": m.sha256}, "annotations": {"path": m.path}})
        for m in package.members
    ]
    return [Dependency(archive), *members]


def _described(source: Path, kind: str) -> list[Dependency]:
    """The files of a source that was found to be the run's."""
    from podlt.data.fetch import file_sha256

    paths = list(_files_below(source))
    digests = {path: file_sha256(path) for path in paths}
    unknown = ""
    notes: Document = {}
    if _OBJECT.fullmatch(source.name):
        unknown = (
            f"{kind} {source.name}: written by podlt from an object that a Python program held: whoever has the "
            "original must write it so again to have this digest"
        )
        notes["notKnown"] = unknown
    base = source if source.is_dir() else source.parent
    found = []
    if len(paths) > _MOST_FILES:
        listing = "".join(f"{digest}  {path.relative_to(base).as_posix()}\n" for path, digest in digests.items())
        found.append(Dependency(_many(source, kind, listing, notes), unknown))
    else:
        for path, digest in digests.items():
            name = path.relative_to(base).as_posix()
            found.append(Dependency(_descriptor(f"{kind}/{name}", path, digest, notes), unknown))
    return [*found, *_croissants(base, set(digests.values()))]


def _descriptor(name: str, path: Path, digest: str, notes: Document) -> Document:
    descriptor: Document = {"name": name, "digest": {"sha256": digest}}
    if hub := _HUB.search(path.absolute().as_posix()):
        kind, repository, revision = hub.groups()
        prefix = "" if kind == "models" else f"{kind}/"
        descriptor["uri"] = f"https://huggingface.co/{prefix}{repository.replace('--', '/')}/tree/{revision}"
    if notes:
        descriptor["annotations"] = notes
    return descriptor


def _many(source: Path, kind: str, listing: str, notes: Document) -> Document:
    """One descriptor for a source of very many files: the digest of the list that `sha256sum` prints of them."""
    count = listing.count("\n")
    what = {"files": count, "digestOf": "the output of sha256sum over these files, sorted by path"}
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return {"name": f"{kind}/{source.name}", "digest": {"sha256": digest}, "annotations": {**what, **notes}}


def _files_below(source: Path) -> Iterator[Path]:
    """Every file that a source's name stands for, sorted by path."""
    from podlt.data.files import files_of

    if source.is_dir() and any(entry.is_dir() for entry in source.iterdir()):
        yield from sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
        return
    for _, path in files_of(str(source), Path()):
        yield path


def _croissants(folder: Path, digests: set[str]) -> list[Dependency]:
    """Croissant descriptions beside the data that list a file by the digest that it has here."""
    found = []
    for name in _CROISSANT:
        path = folder / name
        if not path.is_file() or path.stat().st_size > _LONGEST:
            continue
        try:
            document = json.loads(path.read_bytes())
        except (ValueError, RecursionError, OSError):
            continue
        listed = _listed(document)
        if not listed & digests:
            continue
        from podlt.data.fetch import file_sha256

        descriptor: Document = {"name": f"croissant/{name}", "digest": {"sha256": file_sha256(path)}}
        if isinstance(url := document.get("url"), str) and re.match(r"https?://", url):
            descriptor["uri"] = url[:2000]
        descriptor["annotations"] = {"filesOfTheData": len(listed & digests)}
        found.append(Dependency(descriptor))
    return found


def _listed(document: Any) -> set[str]:
    """The SHA-256 digests of the files that a Croissant description lists."""
    conforms = str(document.get("conformsTo", "")) if isinstance(document, dict) else ""
    if "croissant" not in conforms:
        return set()
    files = document.get("distribution", [])
    return {str(each["sha256"]).lower() for each in files if isinstance(each, dict) and "sha256" in each}
