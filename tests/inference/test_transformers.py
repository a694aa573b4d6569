"""Models of transformers, from small configurations: strict for plain PyTorch, and whole for `from_pretrained`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from near_hosts import train_near
from safetensors.torch import load_file

import podlt
from podlt.data.spec import DataSpec
from podlt.recipe import LossSpec, ModelSpec, Recipe, TrainingSpec

pytestmark = pytest.mark.slow

SMALL = {"vocab_size": 50, "max_position_embeddings": 16}
LLAMA = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
GPT2 = {"vocab_size": 50, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.0}
MODELS: dict[str, tuple[str, dict[str, Any], str, str, str]] = {
    "DistilBertForSequenceClassification": (
        "DistilBertConfig",
        {**SMALL, **DROPOUT, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
        "cross_entropy",
        "kind",
        "AutoModelForSequenceClassification",
    ),
    "GPT2LMHeadModel": (
        "GPT2Config",
        {**GPT2, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
        "token_cross_entropy",
        "next",
        "AutoModelForCausalLM",
    ),
    "LlamaForCausalLM": (
        "LlamaConfig",
        {**SMALL, **LLAMA, "tie_word_embeddings": True},
        "token_cross_entropy",
        "next",
        "AutoModelForCausalLM",
    ),
}

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
"""Kept for as long as the process lives: what it defines goes with it."""


@pytest.fixture(scope="module")
def transformers() -> Any:
    """The package, with what its torchvision needs where that is built against another torch."""
    pytest.importorskip("transformers")
    if not hasattr(torch.ops.torchvision, "nms"):
        for operation in ("nms", "qnms"):
            _LIBRARY.define(f"{operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    found = importlib.import_module("transformers")
    found.utils.logging.set_verbosity_error()
    found.utils.logging.disable_progress_bar()
    return found


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_transformers_comes_out_whole(transformers: Any, tmp_path: Path, name: str) -> None:
    configuration, arguments, loss, label, auto = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, configuration)(**arguments)
    config._name_or_path = str(tmp_path / "somewhere" / "base")
    model = getattr(transformers, name)(config)
    ids = np.random.default_rng(0).integers(1, 50, (60, 8))
    np.savez(tmp_path / "tokens.npz", input_ids=ids, kind=ids[:, 0] % 2, next=np.roll(ids, -1, axis=1))
    recipe = Recipe(
        data=DataSpec(
            str(tmp_path / "tokens.npz"),
            inputs=("input_ids",),
            label=label,
            test_fraction=0.2,
            classes=2 if label == "kind" else 50,
        ),
        model=ModelSpec(f"transformers:{name}"),
        loss=LossSpec(loss),
        optimizer={"name": "sgd", "lr": 0.1},
        training=TrainingSpec(workers=3, batch_size=24),
        arithmetic="stock",
    )
    result = train_near(tmp_path / "run", recipe, model=model, cache=tmp_path / "cache").result
    assert podlt.verify(result.run).ok
    plain = getattr(transformers, name)(config)
    plain.load_state_dict(load_file(result.run / "model.safetensors"), strict=True)

    done = podlt.export(result.run, tmp_path / "out")
    assert {"config.json", "inference.json", "model.safetensors"} <= set(done.files)
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "out").glob("*.json"))
    again, told = getattr(transformers, auto).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(told.values()), told
    examples = torch.from_numpy(ids[:5])
    with torch.no_grad():
        expected = result.model.eval()(examples).logits
        assert torch.equal(plain.eval()(examples).logits, expected)
        assert torch.equal(again.eval()(examples).logits, expected)
    found = podlt.predict(tmp_path / "out", {"input_ids": ids})
    assert found.table.equals(result.predict({"input_ids": ids}).table)
    assert found.table.equals(podlt.predict(result.run, {"input_ids": ids}).table)
