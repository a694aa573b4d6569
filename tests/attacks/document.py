"""docs/ATTACKS.md, made from the two tables whose every row a test plays."""

from __future__ import annotations

from collections.abc import Iterable

from podlt.protocol.claims import Claim

from . import guarded_forgeries, log_forgeries
from .forging import Forgery
from .lying_manager import ATTACKS

HEAD = """\
# Attacks of a lying manager, and which claim fails

Every row is played anew by a test, against the code as it is; this page is made from what the tests demand \
(`pytest tests/attacks/test_document.py --rewrite-golden`). A claim is named by its number in \
[SPEC.md](SPEC.md), section 6. Whoever names a claim here ends with exit code 1.

## Real runs

{attacks} runs on `digits` by real workers (eight, two epochs), whose manager was patched to lie: \
`tests/attacks/lying_manager.py`, `pytest -m '' tests/attacks/test_lying_manager.py`. "5 %" is how many of ten audits \
of one task in twenty, each with its own draw, end with exit code 1; which ones that are depends on the draw, and may \
differ by two on another processor.

| attack | the manager ... | `verify` | `audit --fraction 1` | 5 % |
| --- | --- | --- | --- | --- |
{attack_rows}

- A manager that skips its own share of the tasks, and agrees with whatever was answered, is not in the table: nothing \
tells (SPEC.md, 6.1). It gives up what it would have found, and convicts nobody by it.
- `average-behind-a-fake`: the update of a round with a fake in it cannot be worked out again, as a fake's bytes are \
nowhere. An honest manager whose worker was caught after its fakes were applied gives the same table: 24 fails, 21 was \
not checked for these rounds. Nobody can tell the two apart; nobody is told that the model is sound.
- `average-one-round`: an audit of 5 % averages one whole round anew, so it finds this lie once in as many audits as \
there are rounds. Only `--fraction 1` leaves nothing out.
- `program`: an auditor with the run's version of PyTorch captures the same bytes, or the claim was not checked; one \
whose update is plainly another (5 % of its size, on the first parameters) fails. A program that is almost the \
recipe's is never green, but fails for nobody: exit code 4.
- `begin-arithmetic`: nothing fails, and nothing is green: an auditor whose podlt defines the arithmetic otherwise \
cannot execute tasks as the run did, and ends with exit code 4. So does every honest run of another version.

## Logs

{forgeries} edits of the logs of a simulated run of each preset, with every tree head signed anew: \
`tests/attacks/log_forgeries.py` and `guarded_forgeries.py`, `pytest tests/attacks/test_forged_logs.py`. Both \
verifiers refuse {refused} of them, at the same claims; the others break no rule of the log, and the table says what \
else would tell.

### What only a guarded run has

| the manager ... | `verify` | what else would tell |
| --- | --- | --- |
{guarded_rows}

### What any run has

| the manager ... | `verify` | what else would tell |
| --- | --- | --- |
{classic_rows}
"""


def text() -> str:
    """The whole page."""
    attacks = [
        f"| `{name}` | {a.does} | {_claims(a.verify)} | {_claims(a.audit) if a.audit else _NOT_CHECKED} | {a.share} |"
        for name, a in ATTACKS.items()
    ]
    forgeries = [*guarded_forgeries.FORGERIES.values(), *log_forgeries.FORGERIES.values()]
    return HEAD.format(
        attacks=len(ATTACKS),
        attack_rows="\n".join(attacks),
        forgeries=len(forgeries),
        refused=sum(bool(f.claims) for f in forgeries),
        guarded_rows=_rows(guarded_forgeries.FORGERIES.values()),
        classic_rows=_rows(log_forgeries.FORGERIES.values()),
    )


def _rows(forgeries: Iterable[Forgery]) -> str:
    return "\n".join(f"| {f.what} | {_claims(f.claims)} | {f.tells} |" for f in forgeries)


_NOT_CHECKED = "not checked: exit code 4"


def _claims(claims: Iterable[Claim]) -> str:
    return ", ".join(f"{int(claim)} {claim.name}" for claim in claims) or "holds"
