"""Examples that are Python programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_first_model_trains_beside_cheaters_and_is_proven(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PODLT_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, str(ROOT / "examples" / "first_model.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "3 convicted" in done.stdout and "epoch 8: accuracy 9" in done.stdout
