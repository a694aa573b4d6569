"""Writes strength.csv: 3,000 examples of four numbers, and a fifth that follows from them with some noise."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

EXAMPLES = 3000


def main() -> None:
    """Writes the file beside this one; the same examples every time."""
    dice = random.Random(1)
    with Path(__file__).with_name("strength.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["cement", "water", "age", "heat", "strength"])
        for _ in range(EXAMPLES):
            cement, water = dice.uniform(100, 500), dice.uniform(120, 240)
            age, heat = dice.uniform(1, 365), dice.uniform(5, 40)
            strength = 30 * cement / water + 8 * math.log(age) + 0.02 * (heat - 20) ** 2 + dice.gauss(0, 2)
            writer.writerow(f"{value:.3f}" for value in (cement, water, age, heat, strength))


if __name__ == "__main__":
    main()
