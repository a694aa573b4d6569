"""Claim DATA: the training set and the test set are those that the first entry names, wherever they are found."""

from __future__ import annotations

from pathlib import Path

import msgspec

from podlt.data.dataset import Dataset
from podlt.data.named import NAMED
from podlt.data.prepare import Prepared, prepare
from podlt.errors import InvalidProofError, PodltError, UsageError
from podlt.manager.data_source import DataFiles, at_path, candidates, folders_of, nowhere, refuse_named
from podlt.manager.directory import RunDirectory, Settings
from podlt.protocol import entries as e
from podlt.protocol.claims import Claim, Finding, Outcome
from podlt.recipe import Recipe
from podlt.store.run_files import RunFiles


class AuditData(msgspec.Struct, frozen=True):
    """The data as far as they are the run's.

    Attributes:
        finding: what checking them came to.
        train: the training set, None if it is not the run's.
        test: the test set; None where there is none, or it is not the run's.
        validation: the validation part: no entry binds it, but it is of the same source as the others.
        why: why something is None.
    """

    finding: Finding
    train: Dataset | None = None
    test: Dataset | None = None
    validation: Dataset | None = None
    why: str = ""


def code_and_data(code: Path | str | None, data: Path | str | None) -> tuple[Path | None, Path | None]:
    """Where a caller says that a run's code and data are.

    Raises:
        UsageError: there is nothing.
    """
    folder, source = (None if each is None else Path(each) for each in (code, data))
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--code {folder}: expected a folder")
    if source is not None and not source.exists():
        raise UsageError(f"--data {source}: no such file or folder")
    return folder, source


def find_data(recipe: Recipe, begin: e.Begin, files: RunFiles, cache: Path | None, given: Path | None) -> AuditData:
    """Looks for a run's data, and compares them with the first entry.

    Args:
        recipe: the run's.
        begin: its first entry.
        files: the run; a directory's settings may say where its data were.
        cache: of prepared data.
        given: where the user says that they are; else they are looked for where they were, here, and around the run.

    Raises:
        UsageError: the run's data are a named set, which has no place.
    """
    remedy = f"podlt audit {files.path} --data PATH"
    if given is not None:
        refuse_named(recipe.data)
    try:
        first: AuditData | None = None
        for prepared, where in _prepared(recipe, files, cache, given):
            found = _compared(prepared, begin, where)
            if found.finding.outcome is Outcome.HOLDS:
                return found
            first = first or found
        assert first is not None
        return first
    except PodltError as error:
        why = f"the data could not be had: {error}"
        return AuditData(Finding(Claim.DATA, Outcome.NOT_CHECKED, why=why, remedy=remedy), why="the data are not here")


def _prepared(recipe: Recipe, files: RunFiles, cache: Path | None, given: Path | None) -> list[tuple[Prepared, str]]:
    """All data that could be the run's, best first: one at least.

    Raises:
        DataError: there are none.
        PodltError: they are malformed, or cannot be fetched or stored.
    """
    if recipe.data.source in NAMED:
        return [(prepare(recipe.data, cache), recipe.data.source)]
    if given is not None:
        where = at_path(recipe.data, given)
        return [(where.prepared(recipe.data, cache, None), str(where.source))]
    settings = _settings(files)
    folders = folders_of(files.path, settings)
    found, errors = [], []
    for place in candidates(recipe.data, settings, folders):
        try:
            found.append((place.prepared(recipe.data, cache, None), _shown(place)))
        except PodltError as error:
            errors.append(error)
    if found:
        return found
    if errors:
        raise errors[0]
    raise NotHere(f"{recipe.data.source}: {nowhere(settings, folders)}")


class NotHere(PodltError):
    """The data are nowhere."""


def _shown(place: DataFiles) -> str:
    return str(place.source) if place.test is None else f"{place.source} and {place.test}"


def _settings(files: RunFiles) -> Settings:
    """Where a run's directory says that its data were; an audit does without."""
    if files.kind != "directory":
        return Settings()
    try:
        return RunDirectory(files.path).settings()
    except (PodltError, InvalidProofError):
        return Settings()


def _compared(prepared: Prepared, begin: e.Begin, where: str) -> AuditData:
    train, test, faults = prepared.train, prepared.test, []
    if train.examples != begin.examples:
        faults.append(f"the training set has {train.examples:,} examples, the first entry says {begin.examples:,}")
    if train.digest != begin.data:
        digests = f"expected digest {begin.data.hex()}, got {train.digest.hex()}"
        faults.append(f"the training set in {where} is another one ({digests})")
    train_holds = not faults
    found = test.digest if test is not None else e.NO_TEST
    test_holds = found == begin.test
    if not test_holds and begin.test == e.NO_TEST:
        faults.append(f"the recipe's data have a test set, the first entry says that there is none ({where})")
    elif not test_holds and test is None:
        faults.append(f"the recipe's data have no test set, the first entry names one ({where})")
    elif not test_holds:
        faults.append(f"the test set in {where} is another one (expected {begin.test.hex()}, got {found.hex()})")
    figure = f"{train.examples:,} examples" + (f", {test.examples:,} to test on" if test is not None else "")
    outcome = Outcome.FAILS if faults else Outcome.HOLDS
    return AuditData(
        Finding(Claim.DATA, outcome, figure, "; ".join(faults)),
        train if train_holds else None,
        test if test_holds else None,
        None if faults else prepared.validation,
        "the data that were found are not the run's" if faults else "",
    )
