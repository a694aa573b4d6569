"""A folder of images by class: parts, sizes, and every fault in one report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from podlt.data.describe import describe
from podlt.data.prepare import Prepared, prepare
from podlt.data.spec import DataSpec
from podlt.errors import DataError, UsageError

Image = pytest.importorskip("PIL.Image")
CLASSES = ("cat", "dog")


def save(folder: Path, name: str, size: tuple[int, int] = (4, 6), seed: int = 0, mode: str = "RGB") -> np.ndarray:
    """Saves an image of random pixels; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = size if mode == "L" else (*size, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return pixels


def fill(folder: Path, count: int, classes: tuple[str, ...] = CLASSES) -> None:
    for code, name in enumerate(classes):
        for number in range(count):
            save(folder / name, f"{number}.png", seed=100 * code + number)


def prepared(tmp_path: Path, folder: Path, **options: object) -> Prepared:
    return prepare(DataSpec(str(folder), **options), tmp_path / "cache")  # type: ignore[arg-type]


def test_pixels_are_bytes_of_channel_height_width_with_the_class_of_their_folder(tmp_path: Path) -> None:
    fill(tmp_path / "pets", 3)
    train = prepared(tmp_path, tmp_path / "pets").train
    examples = train.read(np.arange(train.examples))
    assert train.examples == 6 and train.info["classes"] == ["cat", "dog"]
    image, label = train.fields
    assert (image.dtype, image.shape, image.scale, image.role) == ("u8", (3, 4, 6), 1 / 255, "input")
    assert label.role == "label" and examples["label"].tolist() == [0, 1, 0, 1, 0, 1]
    third = save(tmp_path / "again", "x.png", seed=101)
    assert (examples["image"][3] == third.transpose(2, 0, 1)).all()


def test_folders_train_val_and_test_are_the_parts(tmp_path: Path) -> None:
    for name, count in (("train", 3), ("val", 2), ("test", 1)):
        fill(tmp_path / "pets" / name, count)
    found = prepared(tmp_path, tmp_path / "pets")
    assert found.validation is not None and found.test is not None
    assert (found.train.examples, found.validation.examples, found.test.examples) == (6, 4, 2)


def test_a_folder_val_alone_is_the_part_to_test_on(tmp_path: Path) -> None:
    fill(tmp_path / "pets" / "train", 3)
    fill(tmp_path / "pets" / "val", 2)
    found = prepared(tmp_path, tmp_path / "pets")
    assert found.validation is None and found.test is not None and found.test.examples == 4


def test_a_test_fraction_is_drawn_of_each_class(tmp_path: Path) -> None:
    fill(tmp_path / "pets", 5)
    found = prepared(tmp_path, tmp_path / "pets", test_fraction=0.2)
    assert found.test is not None
    assert sorted(found.test.read(np.arange(2))["label"].tolist()) == [0, 1]


def test_size_resizes_and_channels_convert(tmp_path: Path) -> None:
    save(tmp_path / "pets" / "cat", "a.png", (4, 6))
    save(tmp_path / "pets" / "dog", "b.jpg", (9, 5), mode="L")
    train = prepared(tmp_path, tmp_path / "pets", size=(8, 8), channels=1).train
    assert train.fields[0].shape == (1, 8, 8)
    assert train.info["image"]["size"] == [8, 8]


def test_corrupt_and_unequal_images_are_reported_with_their_paths_in_one_report(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    fill(folder, 2)
    (folder / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    whole = (folder / "dog" / "1.png").read_bytes()
    (folder / "dog" / "cut.png").write_bytes(whole[: len(whole) // 2])
    save(folder / "dog", "large.png", (8, 8))
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, folder)
    said = str(caught.value)
    assert "3 faults" in said
    assert all(name in said for name in ("cat/broken.png", "dog/cut.png", "dog/large.png: expected 4 x 6, got 8 x 8"))
    assert "hint: size = [4, 6]" in said


def test_files_that_are_no_images_and_empty_classes_are_reported_together(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    fill(folder, 1)
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / "bird").mkdir()
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, folder)
    assert "cat/notes.txt: expected an image" in str(caught.value)
    assert "bird: expected at least one image" in str(caught.value)


def test_a_class_that_only_the_test_folder_has_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "pets" / "train", 1)
    fill(tmp_path / "pets" / "test", 1, ("cat", "fox"))
    with pytest.raises(DataError, match="fox: no such class: expected one of cat, dog"):
        prepared(tmp_path, tmp_path / "pets")


def test_a_changed_image_is_prepared_anew(tmp_path: Path) -> None:
    fill(tmp_path / "pets", 2)
    before = prepared(tmp_path, tmp_path / "pets").train.root
    assert prepared(tmp_path, tmp_path / "pets").train.root == before
    save(tmp_path / "pets" / "cat", "0.png", seed=77)
    assert prepared(tmp_path, tmp_path / "pets").train.root != before


def test_options_of_tables_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "pets", 1)
    with pytest.raises(UsageError, match="a folder of images: delimiter"):
        prepared(tmp_path, tmp_path / "pets", delimiter=";")


def test_the_description_names_size_and_classes_and_warns_of_unequal_ones(tmp_path: Path) -> None:
    fill(tmp_path / "pets", 1)
    for number in range(12):
        save(tmp_path / "pets" / "dog", f"more{number}.png", seed=50 + number)
    said = describe(prepared(tmp_path, tmp_path / "pets"))
    assert "image: u8[3, 4, 6]" in said and "classes: 2 (cat, dog)" in said
    assert "1 images of 'cat', 13 of 'dog'" in said
