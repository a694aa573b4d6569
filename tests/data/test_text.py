"""Plain text as examples: issue 2, items 3 and 12."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podlt.data.prepare import prepare
from podlt.data.spec import DataSpec
from podlt.errors import DataError


def ready(folder, text, test=None, **options):
    (folder / "data.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    if test is not None:
        (folder / "test.txt").write_bytes(test.encode())
        options["test"] = "test.txt"
    return prepare(DataSpec("data.txt", **options), cache=folder / "cache", base=folder)


def decoded(dataset):
    """The text of each window, a known character for its code and a mark for code 0."""
    characters = ["\0", *dataset.info["vocabulary"]]
    examples = dataset.read(np.arange(dataset.examples, dtype=np.int64))
    assert (examples["tokens"][:, 1:] == examples["label"][:, :-1]).all()
    return [
        "".join(characters[code] for code in [*tokens, last])
        for tokens, last in zip(examples["tokens"], examples["label"][:, -1], strict=True)
    ]


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=5, max_size=80), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_windows_hold_the_text_in_order_without_overlap(tmp_path_factory, text, context):
    text = text.lstrip("\ufeff").ljust(5, "x")
    train = ready(tmp_path_factory.mktemp("text"), text, context=context).train
    whole = len(text) // (context + 1) * (context + 1)
    assert "".join(decoded(train)) == text[:whole]
    assert train.info["vocabulary"] == "".join(sorted(set(text[:whole])))
    assert train.info["vocabulary_size"] == len(set(text[:whole])) + 1


def test_the_last_part_is_held_out_and_characters_that_only_it_holds_are_code_0(tmp_path):
    prepared = ready(tmp_path, "abab" * 9 + "abzz", context=3, test_fraction=0.1)
    assert (prepared.train.examples, prepared.test.examples) == (9, 1)
    assert prepared.train.info["vocabulary"] == "ab"
    assert decoded(prepared.test) == ["ab\0\0"]


def test_a_test_file_is_coded_by_the_training_text(tmp_path):
    prepared = ready(tmp_path, "abcabcabc", "cab?zz", context=2)
    assert decoded(prepared.test) == ["cab", "\0\0\0"]


def test_characters_cut_by_a_block_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("podlt.data.text._BLOCK_BYTES", 5)
    text = "äöü€😀\n" * 6
    assert "".join(decoded(ready(tmp_path, text, context=5).train)) == text


@pytest.mark.parametrize("block", [4, 2**20])
def test_a_byte_that_is_no_text_is_named_with_its_example(tmp_path, monkeypatch, block):
    monkeypatch.setattr("podlt.data.text._BLOCK_BYTES", block)
    with pytest.raises(DataError, match=r"data\.txt, line 3: expected UTF-8, got byte 0xff"):
        ready(tmp_path, b"first\nsecond\nthi\xffrd\n")
    with pytest.raises(DataError, match="line 2: expected UTF-8, got byte 0xe2"):
        ready(tmp_path, b"first\nsec\xe2\x82")


def test_a_text_shorter_than_a_window_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected at least 65 characters \(context \+ 1\), got 64"):
        ready(tmp_path, "x" * 64)
