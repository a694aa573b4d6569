"""A run exported for others: what is in the folder, what is not, and what other libraries make of it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from nets import tied
from torch import nn

import podlt
from podlt.cli import main
from podlt.data.field import Field
from podlt.inference.description import Description, ModelCall, read_description
from podlt.inference.onnx import write_onnx
from podlt.manager.result import Result


def called(*argv: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in argv])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_an_exported_folder_predicts_by_itself(of_people: Result, folder: Path, tmp_path: Path) -> None:
    done = podlt.export(of_people.run, tmp_path / "out")
    assert done.files == ["inference.json", "model.safetensors"]
    assert (tmp_path / "out/model.safetensors").read_bytes() == (of_people.run / "model.safetensors").read_bytes()
    found = podlt.predict(tmp_path / "out", folder / "test.csv")
    expected = of_people.predict(folder / "test.csv")
    assert found.table.equals(expected.table)


def test_what_is_exported_holds_nothing_private(of_people: Result, folder: Path, tmp_path: Path) -> None:
    podlt.export(of_people.run, tmp_path / "out")
    text = (tmp_path / "out/inference.json").read_text(encoding="utf-8")
    secret = json.loads((of_people.run / "manager.key").read_text())["key"]
    assert str(folder) not in text and "p17" not in text and secret not in text
    description = read_description(tmp_path / "out")
    assert description.parameters == of_people.parameters.hex()
    assert description.classes == ["high", "low"]


def test_code_of_an_exported_folder_is_run_only_if_it_is_vouched_for(
    of_arrays: Result, folder: Path, tmp_path: Path
) -> None:
    done = podlt.export(of_arrays.run, tmp_path / "out", model=tied(4))
    assert done.files == ["buffers.safetensors", "inference.json", "model.safetensors"]
    with pytest.raises(podlt.UsageError, match=r"--code DIR names the folder of code that you trust"):
        podlt.predict(tmp_path / "out", folder / "arrays.npz")
    found = podlt.predict(tmp_path / "out", folder / "arrays.npz", code=Path(__file__).parent)
    assert np.array_equal(found["prediction"], of_arrays.predict(folder / "arrays.npz")["prediction"])


def test_without_the_module_parameters_and_description_are_exported(of_arrays: Result, tmp_path: Path) -> None:
    done = podlt.export(of_arrays.run, tmp_path / "out")
    assert done.notes == ["the module is not here: only its parameters and what inference needs were written"]
    with pytest.raises(podlt.UsageError, match="ONNX needs the module"):
        podlt.export(of_arrays.run, tmp_path / "other", onnx=True)


def test_a_folder_with_something_in_it_is_left_alone(of_people: Result, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(podlt.UsageError, match="there is something already"):
        podlt.export(of_people.run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_an_unfinished_run_has_nothing_to_export_or_to_predict_by(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    for use in (lambda: podlt.export(tmp_path, tmp_path / "out"), lambda: podlt.predict(tmp_path, "x.csv")):
        with pytest.raises(podlt.UsageError, match="the run is not finished"):
            use()


def test_the_commands_predict_and_export(
    of_people: Result, folder: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    out = tmp_path / "out.csv"
    assert called("predict", of_people.run, folder / "test.csv", "--out", out, "--id", "id") == 0
    assert called("export", of_people.run, tmp_path / "model") == 0
    text = capfdbinary.readouterr().out.decode()
    assert f"predictions: {out} (80 examples)" in text and "(inference.json, model.safetensors)" in text
    assert called("predict", tmp_path / "model", folder / "test.csv", "--json") == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["prediction"] for line in lines] == of_people.predict(folder / "test.csv")["prediction"].tolist()
    assert out.read_text().splitlines()[1].startswith('"p0",')
    assert called("predict", of_people.run) == called("predict", of_people.run, out, "--prompt", "x") == 2
    assert b"expected one of FILE and --prompt" in capfdbinary.readouterr().err


@pytest.mark.slow  # PyTorch's exporter takes seconds
def test_the_forward_pass_as_onnx_gives_the_same_numbers(of_people: Result, folder: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    done = podlt.export(of_people.run, tmp_path / "out", onnx=True)
    assert "model.onnx" in done.files
    assert str(folder).encode() not in (tmp_path / "out/model.onnx").read_bytes()
    session = runtime.InferenceSession(tmp_path / "out/model.onnx")
    draw = np.random.default_rng(0)
    for examples in (1, 2, 50):
        fed = {
            "numeric": draw.normal(size=(examples, 2)).astype(np.float32),
            "category": draw.integers(0, 3, size=(examples, 2)),
        }
        with torch.no_grad():
            expected = of_people.model(*map(torch.from_numpy, fed.values())).numpy()
        (found,) = session.run(["output"], fed)
        assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_forward_pass_that_cannot_be_exported_says_why(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")

    class Asks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.sum()) > 0 else -x

    description = Description("podlt-inference/1", "", "", ModelCall("m:f", {}), "mse", (), ",", {"kind": "arrays"})
    fields = (Field("x", "f32", (2,), "input"),)
    with pytest.raises(podlt.UsageError, match=r"Asks: PyTorch .* cannot export its forward pass to ONNX"):
        write_onnx(tmp_path / "model.onnx", msgspec.structs.replace(description, fields=fields), Asks())
    assert not list(tmp_path.iterdir())


def test_onnx_names_the_package_that_is_missing(
    of_people: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r"podlt export --onnx needs ONNX \(onnx\)"):
        podlt.export(of_people.run, tmp_path / "out", onnx=True)
    assert not list(tmp_path.iterdir())
