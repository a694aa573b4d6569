"""Measurements that anyone can repeat."""

import sys

CODE = "from podlt.cli import main; main()"
PODLT = [sys.executable, "-P", "-c", CODE]
"""The command `podlt`, of this installation."""
