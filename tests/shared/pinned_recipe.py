"""The recipe of simulated runs that golden files hold."""

from __future__ import annotations

import json
from pathlib import Path

from podlt.canonical import from_json, to_json

VECTOR = Path(__file__).parents[1] / "vectors" / "log-3.json"


def with_data_of_the_vector(recipe: bytes) -> bytes:
    """A simulated run has no data: what data sections gained since the vector was written changes no transcript."""
    vector = json.loads(json.loads(VECTOR.read_text())["recipe"])
    return to_json({**from_json(recipe), "data": vector["data"]})
