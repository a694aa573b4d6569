"""The invitation as it is printed: any terminal copies it whole."""

from __future__ import annotations

import subprocess

import msgspec

from podlt.access import invitation as inv
from podlt.access import invitation_code
from podlt.crypto import SigningKey
from podlt.manager import events as ev

KEY = SigningKey(bytes(32))
SERVERS, CERTIFICATE = ["https://manager.example.org:4222"], bytes(range(256)) * 2
LINE = inv.write(inv.sign(inv.Invitation(SERVERS, KEY.public, CERTIFICATE, secret=bytes(16)), KEY))
INVITED = ev.Invited(
    invitation=LINE, server="https://manager.example.org:4222", path="runs/mnist", file="invitation.txt"
)


def test_no_line_is_wider_than_a_terminal() -> None:
    assert len(LINE) > 800
    assert max(map(len, INVITED.lines_for_people)) < 80
    assert any("runs/mnist/invitation.txt" in line for line in INVITED.lines_for_people)
    assert any("open TCP port 4222" in line for line in INVITED.lines_for_people)


def test_a_code_is_printed_as_one_line_that_a_terminal_shows_whole() -> None:
    code = invitation_code.write(inv.read(LINE)).replace("manager", "train")
    short = msgspec.structs.replace(INVITED, invitation_code=code)
    assert f"podlt worker {code}" in short.lines_for_people
    assert max(map(len, short.lines_for_people)) < 80


def test_a_shell_that_the_lines_are_pasted_into_runs_one_command() -> None:
    lines = INVITED.lines_for_people
    first, last = lines.index("") + 1, lines.index("", 2)
    script = 'podlt() { printf "%s|" "$@"; }\n' + "\n".join(lines[first:last]) + "\n"
    said = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True).stdout
    assert said == f"worker|{LINE}|"


def test_the_lines_are_an_invitation_as_they_stand() -> None:
    lines = INVITED.lines_for_people
    text = "\n".join(lines[2 : lines.index("", 2)]).removeprefix("podlt worker ")
    assert inv.read(text) == inv.read(LINE)
