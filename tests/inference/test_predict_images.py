"""Predictions for a folder of images: read as the run's were, each named by its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from near_hosts import hosts_in_threads
from torch import nn

import podlt

Image = pytest.importorskip("PIL.Image")


def draw(path: Path, level: int, size: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size), level, np.uint8)).save(path)


def test_images_are_named_by_their_files_and_resized_to_the_runs(tmp_path: Path) -> None:
    for number in range(12):
        draw(tmp_path / "train" / "dark" / f"{number}.png", number)
        draw(tmp_path / "train" / "light" / f"{number}.png", 255 - number)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with hosts_in_threads():
        result = podlt.train(
            model,
            str(tmp_path / "train"),
            data={"size": [4, 4], "channels": 1},
            optimizer={"name": "sgd", "lr": 0.5},
            epochs=6,
            workers=3,
            batch_size=12,
            run=tmp_path / "run",
        )
    draw(tmp_path / "new" / "a.png", 3)
    draw(tmp_path / "new" / "below" / "b.png", 250, size=9)
    found = result.predict(tmp_path / "new")
    assert found["file"].tolist() == ["a.png", "below/b.png"]
    assert found["prediction"].tolist() == ["dark", "light"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(podlt.UsageError, match="expected images"):
        result.predict(tmp_path / "empty")
    with pytest.raises(podlt.UsageError, match="there is no such file or folder"):
        result.predict(tmp_path / "nowhere")
    with pytest.raises(podlt.UsageError, match="the run's data are images: expected a folder of images"):
        result.predict(tmp_path / "new" / "a.png")
