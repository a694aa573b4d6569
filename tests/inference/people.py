"""A small table of people: numbers, dates, booleans, texts with commas, and missing values."""

from __future__ import annotations

import csv
import random
from pathlib import Path

from podlt.data.spec import DataSpec

COLUMNS = ["id", "age", "job", "joined", "member", "income"]
Rows = list[list[object]]


def people(count: int, seed: int) -> Rows:
    """Examples with numbers, dates, booleans, texts with commas, and missing values."""
    draw = random.Random(seed)
    rows: Rows = []
    for place in range(count):
        age, job = draw.randint(18, 80), draw.choice(["cook", "Clerk", "smith, black", ""])
        joined = f"20{draw.randint(10, 25)}-0{draw.randint(1, 9)}-11"
        rich = age + (20 if job == "cook" else 0) > 55
        shown = age if draw.random() > 0.1 else ""
        rows.append(
            [f"p{place}", shown, job, joined, draw.choice(["TRUE", "true", "False"]), "high" if rich else "low"]
        )
    return rows


def write_csv(path: Path, rows: Rows, columns: list[str] = COLUMNS) -> Path:
    """A file of some of the columns, in any order."""
    places = [COLUMNS.index(column) for column in columns]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([row[place] for place in places] for row in rows)
    return path


def people_spec(folder: Path, **changes: object) -> DataSpec:
    """What a recipe says of the table in a folder."""
    said = {
        "test": str(folder / "test.csv"),
        "label": "income",
        "categorical": ("job", "member"),
        "dates": ("joined",),
        "drop": ("id",),
        "missing": "mean",
    }
    return DataSpec(str(folder / "people.csv"), **{**said, **changes})  # type: ignore[arg-type]
