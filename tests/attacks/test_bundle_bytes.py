"""Every byte of a bundle: one that was changed is found, or lies in what the tables of claims say was not checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import second_opinion
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from near_hosts import train_near
from small_runs import seeded, tiny_recipe

from podlt.cli.report import write_report
from podlt.dashboard.source import read_messages
from podlt.errors import StorageError
from podlt.manager.audit import audit
from podlt.protocol.claims import Claim, Outcome
from podlt.store.bundle import write_bundle
from podlt.store.bundle_reader import CHEATS, FIRST_CHECKPOINT, ROUNDS
from podlt.store.container import ContainerMember, read_container
from podlt.verify import verify

PROVEN = ("podlt-bundle", "log/entries", "log/heads", "recipe.json", "program.json", "model.safetensors")
"""Whose every byte `verify` checks, as it does every byte between the members."""

RESTS_ON = {FIRST_CHECKPOINT: {Claim.START}, "updates": {Claim.LOSSES, Claim.PARAMETERS}}
"""Members that `verify` does not look at, and the claims that rest on them: those it must not call checked."""

CLAIMED = (ROUNDS, CHEATS)
"""Members that no claim rests on; whoever shows what they say says so."""

spoiling = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(autouse=True)
def one_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second verifier takes any JSON for a recipe, and so does not say of each spoiled one that its terms fail."""
    monkeypatch.setattr(second_opinion.MODULE, "verify_log", second_opinion.ours)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with updates of a demonstration whose cheat never struck: everything in it holds."""
    folder = tmp_path_factory.mktemp("bundled")
    recipe = tiny_recipe(workers=4, epochs=2)
    run = train_near(folder / "run", recipe, cheats=["1:selective:0.000001"], entropy=seeded(4)).result.run
    write_bundle(run, folder / "whole.podlt", updates=True)
    return folder / "whole.podlt"


@pytest.fixture(scope="module")
def members(whole: Path) -> list[ContainerMember]:
    with whole.open("rb") as file:
        return list(read_container(file))


@pytest.fixture
def spoiled(whole: Path, tmp_path: Path) -> Iterator[Path]:
    """The bundle, to change a byte of."""
    path = tmp_path / "spoiled.podlt"
    path.write_bytes(whole.read_bytes())
    yield path


def flip(whole: Path, spoiled: Path, position: int, bits: int) -> None:
    raw = bytearray(whole.read_bytes())
    raw[position] ^= bits
    spoiled.write_bytes(raw)


def outcomes(path: Path) -> dict[Claim, Outcome]:
    return {finding.claim: finding.outcome for finding in verify(path, jobs=1).findings}


def test_the_bundle_as_it_is_holds_and_has_every_member(whole: Path, members: list[ContainerMember]) -> None:
    assert verify(whole, jobs=1).exit_code == audit(whole, 1.0, seed=1, jobs=1).exit_code == 0
    names = {member.name for member in members}
    assert {*PROVEN, *CLAIMED, FIRST_CHECKPOINT} < names
    assert {name.partition("/")[0] for name in names - {*PROVEN, *CLAIMED, FIRST_CHECKPOINT}} == {"updates"}


@pytest.mark.parametrize("name", PROVEN)
@spoiling
@given(st.data())
def test_a_changed_byte_of_what_is_proven_fails(
    whole: Path, members: list[ContainerMember], spoiled: Path, name: str, data: st.DataObject
) -> None:
    member = next(m for m in members if m.name == name)
    position = member.offset + data.draw(st.integers(0, member.size - 1))
    flip(whole, spoiled, position, data.draw(st.integers(1, 255)))
    assert verify(spoiled, jobs=1).exit_code == 1


@spoiling
@given(st.data())
def test_a_changed_byte_between_the_members_fails(
    whole: Path, members: list[ContainerMember], spoiled: Path, data: st.DataObject
) -> None:
    inside = [range(member.offset, member.offset + member.size) for member in members]
    starts = [0, *(part.stop for part in inside)]
    stops = [*(part.start for part in inside), whole.stat().st_size]
    start, stop = data.draw(st.sampled_from(list(zip(starts, stops, strict=True))))
    flip(whole, spoiled, data.draw(st.integers(start, stop - 1)), data.draw(st.integers(1, 255)))
    assert verify(spoiled, jobs=1).exit_code == 1


@settings(spoiling, max_examples=5)
@given(st.data())
def test_a_changed_byte_of_what_only_an_audit_reads_is_not_checked_by_verify_and_fails_in_an_audit(
    whole: Path, members: list[ContainerMember], spoiled: Path, data: st.DataObject
) -> None:
    unread = [m for m in members if m.name == FIRST_CHECKPOINT or m.name.startswith("updates/")]
    member = data.draw(st.sampled_from(unread))
    flip(whole, spoiled, member.offset + data.draw(st.integers(0, member.size - 1)), data.draw(st.integers(1, 255)))
    found, resting = outcomes(spoiled), RESTS_ON[member.name if member.name in RESTS_ON else "updates"]
    assert {found[claim] for claim in resting} == {Outcome.NOT_CHECKED}
    report = audit(spoiled, 0.01, seed=1, jobs=1)
    assert report.exit_code == 1
    assert any(report.finding(claim).outcome is Outcome.FAILS for claim in resting)


UNBOUND = {"header", "figures", "disk", "caught_up", "claims"}
"""What a page marks as unproven, or has found itself: all else of it is the log's."""


@settings(spoiling, max_examples=8)
@given(st.data())
def test_a_changed_byte_of_what_no_entry_binds_changes_no_claim_and_is_shown_as_the_managers_word(
    whole: Path, members: list[ContainerMember], spoiled: Path, data: st.DataObject
) -> None:
    member = data.draw(st.sampled_from([m for m in members if m.name in CLAIMED]))
    flip(whole, spoiled, member.offset + data.draw(st.integers(0, member.size - 1)), data.draw(st.integers(1, 255)))
    assert outcomes(spoiled) == outcomes(whole)
    try:
        report = write_report(spoiled, spoiled.with_name("report.html")).read_text()
    except StorageError:  # what it says cannot be read at all
        return
    shown = json.loads(report.partition('id="data">')[2].partition("</script>")[0])["messages"]
    bound, before = ([m for m in found if m["t"] not in UNBOUND] for found in (shown, read_messages(whole)))
    assert bound == before
