"""`podlt export`: a trained model as a folder for others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from podlt.cli.options import JsonOption, RunArgument
from podlt.cli.predict import ModelOption


def export(
    run: RunArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to: a folder that is empty or not there yet.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="Add the forward pass as ONNX (model.onnx).")] = False,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a finished run's model for use elsewhere: parameters, and what inference needs.

    DIR gets model.safetensors, which plain PyTorch loads strictly, and inference.json: columns, means, codes, class
    names, loss. A model of transformers is written as its save_pretrained does, for from_pretrained. Nothing private is
    in it: no key, no path of this machine, no example of the data.
    """
    from podlt.manager.trained import export as write
    from podlt.manager.trained import module_of

    done = write(run, folder, model=module_of(model) if model is not None else None, onnx=onnx)
    if as_json:
        typer.echo(json.dumps({"folder": str(done.folder), "files": done.files, "notes": done.notes}))
        return
    for note in done.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"exported: {done.folder} ({', '.join(done.files)})")
