"""Texts with a tokenizer: packed windows, and texts to classify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from podlt.data import tokens
from podlt.data.prepare import Prepared, prepare
from podlt.data.spec import DataSpec
from podlt.errors import DataError, UsageError

tokenizers = pytest.importorskip("tokenizers")
WORDS = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", *(f"w{number}" for number in range(20))]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a model whose tokenizer knows the words w0 to w19, with the numbers 4 to 23."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    (tmp_path / "model").mkdir()
    made.save(str(tmp_path / "model" / "tokenizer.json"))
    return tmp_path / "model"


def prepared(tmp_path: Path, source: Path, **options: Any) -> Prepared:
    return prepare(DataSpec(str(source), tokenizer="model", **options), tmp_path / "cache", base=tmp_path)


def rows(found: Prepared) -> dict[str, Any]:
    return found.train.read(np.arange(found.train.examples))


def jsonl(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_documents_of_a_column_are_packed_with_the_separator_between_them(tmp_path: Path, model: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"text": "w0 w1 w2", "n": 1}, {"text": "w3"}, {"text": "w4 w5 w6 w7"}])
    found = prepared(tmp_path, path, text="text", window=4)
    assert [(f.name, f.dtype, f.shape, f.role) for f in found.train.fields] == [
        ("input_ids", "i64", (4,), "input"),
        ("labels", "i64", (4,), "label"),
    ]
    assert rows(found)["input_ids"].tolist() == [[4, 5, 6, 3], [3, 8, 9, 10]]
    assert rows(found)["labels"].tolist() == [[5, 6, 3, 7], [8, 9, 10, 11]]
    assert found.notes == ("3 documents, 11 tokens; the last 1 fill no window",)


def test_labels_that_are_not_shifted_are_the_tokens_themselves(tmp_path: Path, model: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"text": "w0 w1 w2"}, {"text": "w3 w4 w5"}])
    found = rows(prepared(tmp_path, path, text="text", window=4, shift=False))
    assert found["input_ids"].tolist() == found["labels"].tolist() == [[4, 5, 6, 3], [7, 8, 9, 3]]


def test_the_same_texts_give_the_same_examples_from_every_form_of_file(tmp_path: Path, model: Path) -> None:
    texts = [" ".join(f"w{(i * j) % 20}" for j in range(9)) for i in range(1, 30)]
    pq.write_table(pa.table({"t": texts}), tmp_path / "d.parquet")
    (tmp_path / "d.csv").write_text("t,n\n" + "".join(f"{text},1\n" for text in texts))
    sources = [tmp_path / "d.parquet", tmp_path / "d.csv", jsonl(tmp_path / "d.jsonl", [{"t": t} for t in texts])]
    roots = {prepared(tmp_path, source, text="t", window=8).train.root for source in sources}
    assert len(roots) == 1


def test_a_text_file_is_one_document_however_it_is_cut(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d.txt").write_text("".join(f"w{i % 20} w{i % 7}\n" for i in range(100)))
    whole = prepared(tmp_path, tmp_path / "d.txt", window=8, test_fraction=0.2)
    monkeypatch.setattr(tokens, "PIECE_CHARACTERS", 20)
    cut = prepare(
        DataSpec(str(tmp_path / "d.txt"), tokenizer=str(model), window=8, test_fraction=0.2), tmp_path / "other"
    )
    assert whole.train.root == cut.train.root and whole.test is not None and whole.test.examples == 4
    assert whole.notes[0].startswith("1 documents, 201 tokens")


def test_the_description_names_the_tokenizer_by_its_digest_and_another_prepares_anew(
    tmp_path: Path, model: Path
) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"text": "w0 w1 w2 w3 w4"}])
    found = prepared(tmp_path, path, text="text", window=4)
    assert found.train.info["tokenizer"]["name"] == "model/tokenizer.json"
    assert len(found.train.info["tokenizer"]["sha256"]) == 64
    assert found.train.info["vocabulary_size"] == 24
    changed = (model / "tokenizer.json").read_text().replace('"w0": 4', '"w0": 5').replace('"w1": 5', '"w1": 4')
    (model / "tokenizer.json").write_text(changed)
    assert prepared(tmp_path, path, text="text", window=4).train.root != found.train.root


def test_a_separator_may_be_named_or_left_out(tmp_path: Path, model: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"text": "w0 w1"}, {"text": "w2 w3 w4"}])
    none = rows(prepared(tmp_path, path, text="text", window=4, separator=""))
    assert none["input_ids"].tolist() == [[4, 5, 6, 7]]
    with pytest.raises(UsageError, match=r"has no token '<eos>'"):
        prepared(tmp_path, path, text="text", window=4, separator="<eos>")


def test_texts_to_classify_are_cut_and_padded_to_one_length(tmp_path: Path, model: Path) -> None:
    lines = [{"text": "w0", "n": 7, "mood": "good"}, {"text": "w1 w2 w3 w4", "n": 8, "mood": "bad"}]
    found = prepared(tmp_path, jsonl(tmp_path / "d.jsonl", lines), text="text", label="mood", max_length=5)
    values = rows(found)
    assert [f.name for f in found.train.fields] == ["input_ids", "attention_mask", "label"]
    assert values["input_ids"].tolist() == [[2, 4, 3, 1, 1], [2, 5, 6, 7, 3]]
    assert values["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert values["label"].tolist() == [1, 0] and found.train.info["classes"] == ["bad", "good"]
    assert found.notes == ("1 texts are longer than max_length = 5 tokens, and cut",)
    assert found.train.info["max_length"] == 5 and found.train.info["vocabulary_size"] == 24


def test_missing_texts_and_labels_are_refused_in_one_report(tmp_path: Path, model: Path) -> None:
    lines: list[dict[str, Any]] = [{"text": f"w{i}", "mood": int(i > 1)} for i in range(5)]
    lines[1]["text"] = None
    lines[3]["mood"] = None
    path = jsonl(tmp_path / "d.jsonl", lines)
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, path, text="text", label="mood", max_length=4)
    assert "line 2" in str(caught.value) and "line 4" in str(caught.value)
    kept = prepared(tmp_path, path, text="text", label="mood", max_length=4, missing="drop")
    assert kept.train.examples == 3


def test_what_is_not_said_is_asked_for(tmp_path: Path, model: Path) -> None:
    path = jsonl(tmp_path / "d.jsonl", [{"text": "w0", "mood": 1}])
    with pytest.raises(UsageError, match="max_length, its most tokens"):
        prepared(tmp_path, path, text="text", label="mood")
    with pytest.raises(UsageError, match="name the column of texts, as in text = 'text'"):
        prepared(tmp_path, path)
    with pytest.raises(DataError, match="expected at least 9 tokens"):
        prepared(tmp_path, path, text="text", window=8)
    with pytest.raises(DataError, match=r"no folder with a tokenizer\.json"):
        prepare(DataSpec(str(path), tokenizer="nowhere", text="text"), tmp_path / "cache", base=tmp_path)


def test_bytes_that_are_no_utf8_are_reported_with_their_examples(tmp_path: Path, model: Path) -> None:
    (tmp_path / "d.txt").write_bytes(b"w0 w1\nw2 \xff\nw3\nw4 \xfe\n")
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, tmp_path / "d.txt", window=2)
    assert "line 2: expected UTF-8" in str(caught.value) and "line 4: expected UTF-8" in str(caught.value)
