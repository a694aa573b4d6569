"""Starts podlt on a machine whose tasks crash or never end: `bombed.py COMMAND ...` (see `tests/engine/bombs.py`)."""

from __future__ import annotations

import os
from pathlib import Path

from podlt.cli import main
from podlt.engine.isolated.executor import TaskProcess

if __name__ == "__main__":
    TaskProcess.module = "bombs"
    os.environ["PYTHONPATH"] = f"{Path(__file__).parents[1] / 'engine'}:{os.environ.get('PYTHONPATH', '')}"
    main()
