"""Who may work for a run: the rules, and the file that keeps them."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podlt.access import invitation as inv
from podlt.access import policy as ad
from podlt.access.registry import Registry
from podlt.crypto import SigningKey
from podlt.errors import StorageError, UsageError
from podlt.store.run_names import ACCESS

MANAGER = SigningKey(b"m" * 32)
NAME, OTHER = "a" * 32, "b" * 32


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def issued(uses: int = 1, expires: int = 0) -> ad.AccessPolicy:
    return ad.AccessPolicy().issue(NAME, ad.Issued(uses=uses, issued=0, expires=expires))


def let_in(state: ad.AccessPolicy, who: bytes, name: str = NAME, now: int = 0) -> ad.AccessPolicy:
    found = state.decide(who, name, now)
    assert isinstance(found, ad.Admitted)
    return found.after


def refused(state: ad.AccessPolicy, who: bytes, name: str = "", now: int = 0, deposit: int = 0) -> ad.Refusal:
    found = state.decide(who, name, now, deposit)
    assert isinstance(found, ad.Refusal)
    return found


@given(st.integers(1, 8), st.lists(st.integers(0, 12), max_size=40))
def test_an_invitation_lets_in_as_many_keys_as_it_has_uses_and_each_as_often_as_it_comes(
    uses: int, comers: list[int]
) -> None:
    state, inside = issued(uses), set[int]()
    for comer in comers:
        found = state.decide(key(comer), NAME, 5)
        assert isinstance(found, ad.Admitted) == (comer in inside or len(inside) < uses)
        if isinstance(found, ad.Admitted):
            inside.add(comer)
            state = found.after
    assert state.invitations[NAME].used == len(inside) <= uses


def test_an_invitation_expires_and_who_came_in_time_may_come_back() -> None:
    state = let_in(issued(uses=5, expires=1000), key(1), now=999)
    assert "expired" in refused(state, key(2), NAME, 1000).reason
    assert isinstance(state.decide(key(1), "", 10**12), ad.Admitted)


def test_a_revoked_invitation_lets_nobody_in_and_leaves_those_inside() -> None:
    state = let_in(issued(uses=5), key(1)).withdraw(NAME)
    assert "revoked" in refused(state, key(2), NAME).reason
    assert isinstance(state.decide(key(1), NAME, 0), ad.Admitted)
    with pytest.raises(UsageError):
        state.withdraw(OTHER)


def test_an_invitation_of_another_run_lets_nobody_in() -> None:
    assert "not one of this run" in refused(issued(), key(1), OTHER).reason
    assert "not invited" in refused(issued(), key(1)).reason


def test_a_revoked_key_stays_out_whatever_it_brings_until_it_is_allowed() -> None:
    state = let_in(issued(uses=5), key(1)).revoke(key(1).hex(), "it lied").open(0)
    found = refused(state, key(1), NAME, deposit=10**9)
    assert "it lied" in found.reason and found.seconds is None
    assert isinstance(state.allow(key(1).hex(), "").decide(key(1), "", 0), ad.Admitted)


def test_a_paused_key_may_ask_again_and_comes_in_after_it_was_resumed() -> None:
    state = let_in(issued(), key(1)).pause(key(1).hex(), "too slow")
    assert refused(state, key(1)).seconds == ad.PAUSED_SECONDS
    assert isinstance(state.resume(key(1).hex()).decide(key(1), "", 0), ad.Admitted)
    closed = state.resume(key(1).hex()).pause_everybody(True)
    assert refused(closed, key(1)).seconds == ad.PAUSED_SECONDS


def test_resuming_does_not_undo_a_revocation() -> None:
    state = issued().pause(key(1).hex(), "").revoke(key(1).hex(), "").resume(key(1).hex())
    assert "revoked" in refused(state, key(1), NAME).reason


def test_an_allowed_key_needs_no_invitation_and_uses_none_up() -> None:
    state = let_in(issued().allow(key(1).hex(), "a friend"), key(1))
    assert state.invitations[NAME].used == 0
    assert state.members[key(1).hex()].by == "allowlist"


@given(st.integers(0, 100), st.integers(0, 100), st.lists(st.integers(1, 60), max_size=3))
def test_an_open_run_takes_who_has_paid_and_agrees_to_the_deposit_and_remembers_nobody(
    asked: int, offered: int, paid: list[int]
) -> None:
    state = ad.AccessPolicy().open(asked, "the cashier")
    for at, amount in enumerate(paid):
        state = state.pay(key(1).hex(), amount, at, "cash")
    found = state.decide(key(1), "", 0, offered)
    assert state.held(key(1).hex()) == sum(paid)
    if offered < asked:
        assert isinstance(found, ad.Refusal) and f"{asked} credits, and {offered} were offered" in found.reason
    elif sum(paid) >= asked:
        assert found == ad.Admitted(state, "open")
    else:
        assert isinstance(found, ad.Refusal) and found.seconds is None
        for told in (f"pay {asked - sum(paid)} to the cashier", key(1).hex(), f"{sum(paid)} are recorded"):
            assert told in found.reason
    assert isinstance(state.open(None).decide(key(1), "", 0, offered), ad.Refusal)
    assert asked == 0 or isinstance(state.decide(key(2), "", 0, 100), ad.Refusal)  # another's deposit is not its own


def test_who_was_paid_back_must_pay_anew_and_nothing_is_paid_back_twice() -> None:
    name = key(1).hex()
    state = (
        ad.AccessPolicy().open(50).pay(name, 30, 1, "").pay(name, 40, 2, "transfer 17").pay_back(name, 3, "transfer 18")
    )
    assert state.held(name) == 0 and [p.back for p in state.payments[name]] == [False, False, True]
    assert "pay 50" in refused(state, key(1), deposit=50).reason
    with pytest.raises(UsageError, match="no deposit is held"):
        state.pay_back(name, 4, "")
    assert isinstance(state.pay(name, 50, 5, "").decide(key(1), "", 6, 50), ad.Admitted)
    for amount in (0, -5, 2**62):
        with pytest.raises(UsageError):
            state.pay(name, amount, 7, "")
    assert ad.from_bytes(ad.to_bytes(state)) == state


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("decide"), st.integers(0, 3), st.integers(0, 20)),
            st.tuples(st.sampled_from(["allow", "revoke", "pause"]), st.integers(0, 3), st.just(0)),
            st.tuples(st.just("resume"), st.integers(0, 3), st.just(0)),
        ),
        max_size=30,
    )
)
def test_any_history_is_kept_by_the_file_and_no_barred_key_is_ever_let_in(history: list[tuple[str, int, int]]) -> None:
    state = issued(uses=2, expires=10)
    for what, who, now in history:
        if what == "decide":
            found = state.decide(key(who), NAME, now)
            if isinstance(found, ad.Admitted):
                assert state.barred(key(who)) is None
                state = found.after
        elif what == "resume":
            state = state.resume(key(who).hex())
        else:
            state = getattr(state, what)(key(who).hex(), "because")
        assert ad.from_bytes(ad.to_bytes(state)) == state
        assert state.invitations[NAME].used <= 2


# -- the file --------------------------------------------------------------------------------------------------------


def place(run: Path) -> Registry:
    register = Registry(run)
    register.set_place(["https://a.example:4222"], b"certificate")
    return register


def test_an_invitation_works_for_a_manager_that_was_started_again(tmp_path: Path) -> None:
    invitation = inv.read(inv.write(place(tmp_path).invite(MANAGER, uses=1, now=5)))
    assert isinstance(Registry(tmp_path).admit(key(1), invitation.name, 6), ad.Admitted)
    assert isinstance(Registry(tmp_path).admit(key(2), invitation.name, 7), ad.Refusal)
    assert isinstance(Registry(tmp_path).admit(key(1), "", 8), ad.Admitted)


def test_the_file_is_its_owners_and_holds_nothing_that_lets_anybody_in(tmp_path: Path) -> None:
    register = place(tmp_path)
    invitation = register.invite(MANAGER, now=5)
    written = (tmp_path / ACCESS).read_bytes()
    assert stat.S_IMODE((tmp_path / ACCESS).stat().st_mode) == 0o600
    assert invitation.name.encode() in written and invitation.secret.hex().encode() not in written


def test_two_processes_that_change_the_file_at_once_lose_nothing(tmp_path: Path) -> None:
    name = place(tmp_path).invite(MANAGER, uses=7, now=5).name

    def come(number: int) -> bool:
        return isinstance(Registry(tmp_path).admit(key(number), name, 6), ad.Admitted)

    def allow(number: int) -> bool:
        Registry(tmp_path).change(lambda state: state.allow(key(100 + number).hex(), ""))
        return False

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda n: come(n) if n % 2 else allow(n), range(40)))
    state = Registry(tmp_path).state
    assert sum(outcomes) == state.invitations[name].used == len(state.members) == 7
    assert len(state.allowed) == 20


def test_what_another_process_changed_is_seen_at_once(tmp_path: Path) -> None:
    manager, operator = place(tmp_path), Registry(tmp_path)
    name = manager.invite(MANAGER, uses=3, now=5).name
    manager.admit(key(1), name, 6)
    operator.change(lambda state: state.revoke(key(1).hex(), "gone"))
    assert isinstance(manager.admit(key(1), name, 7), ad.Refusal)


def test_a_spoiled_file_is_named_and_lets_nobody_in(tmp_path: Path) -> None:
    register = place(tmp_path)
    (tmp_path / ACCESS).write_bytes(b'{"members":{"zz":1}}')
    with pytest.raises(StorageError, match=ACCESS):
        register.admit(key(1), "", 0)


def test_nobody_can_be_invited_to_nowhere_or_for_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no server"):
        Registry(tmp_path).invite(MANAGER, now=0)
    for uses, expires in ((0, 0), (1, 5)):
        with pytest.raises(UsageError, match="would admit nobody"):
            place(tmp_path).invite(MANAGER, uses=uses, expires=expires, now=5)


def test_an_address_lets_nobody_in_by_itself(tmp_path: Path) -> None:
    address = place(tmp_path).invite(MANAGER, address=True, now=5)
    assert address.name == "" and not Registry(tmp_path).state.invitations
    assert isinstance(Registry(tmp_path).admit(key(1), address.name, 6), ad.Refusal)


def test_who_comes_by_an_invitation_is_of_its_operator_and_each_invitation_has_one_of_its_own() -> None:
    state = ad.AccessPolicy()
    for number, operator in enumerate(["", "anna", "", "invitation-5", "", "anna"]):
        state = state.issue(f"{number:032x}", ad.Issued(uses=2, issued=0, operator=operator))
    for number in range(6):
        state = let_in(state, key(number), f"{number:032x}")
    names = [state.operator(key(number).hex()) for number in range(6)]
    assert names == ["invitation-1", "anna", "invitation-3", "invitation-5", "invitation-6", "anna"]
    assert state.identities() == {name: names.count(name) for name in sorted(set(names))}


def test_an_allowed_key_is_its_own_operator_unless_it_was_said_to_be_anothers() -> None:
    state = ad.AccessPolicy().allow(key(1).hex(), "").allow(key(2).hex(), "", "anna")
    assert [state.operator(key(number).hex()) for number in (1, 2, 3)] == ["", "anna", ""]
    assert state.allow(key(2).hex(), "").operator(key(2).hex()) == ""


def test_no_more_workers_of_one_operator_are_let_in_than_the_owner_says() -> None:
    state = ad.AccessPolicy().limit(2)
    for name, operator in ((NAME, "anna"), (OTHER, "anna"), ("c" * 32, "bea")):
        state = state.issue(name, ad.Issued(uses=5, issued=0, operator=operator))
    state = let_in(let_in(state, key(1), NAME), key(2), OTHER)
    assert "2 workers of the operator anna" in refused(state, key(3), OTHER).reason
    assert state.invitations[OTHER].used == 1
    state = let_in(state, key(3), "c" * 32)
    assert isinstance(state.decide(key(1), "", 9), ad.Admitted), "who is in stays"
    state = state.revoke(key(1).hex(), "gone")
    assert isinstance(state.decide(key(4), NAME, 9), ad.Admitted)
    for number in range(10, 14):  # an allowed key without a name is nobody else's
        state = let_in(state.allow(key(number).hex(), ""), key(number), "")
