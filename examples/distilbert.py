"""DistilBERT learns to tell what a docstring of Python's library is of, over 12 workers of whom two cheat. Needs
pip install '.[text]' transformers; with `from_pretrained` in the place of the configuration it is fine-tuning."""

import ast
import sysconfig
from pathlib import Path

import pandas
from tokenizers import BertWordPieceTokenizer
from transformers import DistilBertConfig, DistilBertForSequenceClassification

import podlt

KINDS = {ast.Module: "module", ast.ClassDef: "class", ast.FunctionDef: "function"}


def docstrings():
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if type(node) in KINDS and (text := ast.get_docstring(node)):
                yield {"text": text, "kind": KINDS[type(node)]}


if __name__ == "__main__":
    examples, tokenizer = pandas.DataFrame(docstrings()), BertWordPieceTokenizer()
    tokenizer.train_from_iterator(examples.text, vocab_size=4000, show_progress=False)
    tokenizer.save("tokenizer.json")
    config = DistilBertConfig(vocab_size=4000, dim=64, hidden_dim=256, n_layers=2, n_heads=4, num_labels=3)
    result = podlt.train(
        DistilBertForSequenceClassification(config),
        examples,
        data={"tokenizer": "tokenizer.json", "text": "text", "max_length": 48, "label": "kind"},
        optimizer={"name": "adamw", "lr": 1e-3, "no_decay": True, "schedule": "linear", "warmup_epochs": 0.3},
        epochs=3,
        workers=12,
        batch_size=120,
        test_fraction=0.1,
        cheats=["2:sign-flip"],
        progress=True,
    )
    print(result, result.evicted)
