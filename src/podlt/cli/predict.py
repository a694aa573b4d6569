"""`podlt predict`: what a trained model says of new examples."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from podlt.cli.options import JsonOption
from podlt.errors import UsageError

if TYPE_CHECKING:
    from podlt.inference.predictor import Predictor

TEXTS = "Models of texts"

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODULE:CALLABLE",
        help="What makes the module, without arguments, where the run was given it as an object.",
    ),
]


def predict(
    run: Annotated[
        Path, typer.Argument(metavar="RUN|DIR", help="A finished run's directory, or a folder that podlt export made.")
    ],
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="New examples, of the run's kind; a label is not needed.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .csv, .jsonl or .parquet file; standard output by default."),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="The column to repeat beside the predictions; examples' numbers by default."
        ),
    ] = None,
    model: ModelOption = None,
    code: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Of an exported folder: where the model's code is, which you trust."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", rich_help_panel=TEXTS, help="The text that is to be continued.")
    ] = None,
    length: Annotated[int, typer.Option(min=1, rich_help_panel=TEXTS, help="How many characters to add.")] = 200,
    temperature: Annotated[
        float, typer.Option(min=0.0, rich_help_panel=TEXTS, help="0 takes the likeliest; 1 draws by probability.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, rich_help_panel=TEXTS, help="Of the draws.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Predict new examples by a finished run: classes with probabilities, or numbers.

    The examples are encoded by the run's own columns, means and codes. A category that the training examples do not
    have is taken as unknown; a missing value as the run's recipe says. --json prints JSON lines, or the summary with
    --out.

    Examples: podlt predict runs/census new.csv --out predictions.csv

              podlt predict runs/austen --prompt "It is a truth" --temperature 0.8
    """
    from podlt.inference.continuation import continued
    from podlt.manager.trained import module_of, open_predictor

    if (file is None) == (prompt is None):
        raise UsageError("expected one of FILE and --prompt" + (", got both" if file is not None else ""))
    predictor = open_predictor(run, model=module_of(model) if model is not None else None, code=code)
    if prompt is not None:
        text = continued(predictor, prompt, length, temperature, seed)
        typer.echo(json.dumps({"prompt": prompt, "text": text}) if as_json else text)
        return
    assert file is not None
    _predict_file(predictor, file, out, id, as_json)


def _predict_file(predictor: Predictor, file: Path, out: Path | None, id: str | None, as_json: bool) -> None:
    from podlt.inference.output_files import CsvLines, JsonLines, write_predictions

    column = int(id) if id is not None and id.isdecimal() and predictor.has_numbered_columns else id
    reader = predictor.open(file, column)
    if out is None:
        sink = (JsonLines if as_json else CsvLines)(sys.stdout.buffer)
        for batch in predictor.batches(reader, column):
            sink.write_batch(batch)
        sink.close()
        _tell(predictor.notes(reader))
        return
    count = write_predictions(out, predictor.batches(reader, column))
    notes = predictor.notes(reader)
    if as_json:
        typer.echo(json.dumps({"predictions": str(out), "examples": count, "notes": notes}))
    else:
        _tell(notes)
        typer.echo(f"predictions: {out} ({count:,} examples)")


def _tell(notes: list[str]) -> None:
    for note in notes:
        typer.echo(f"note: {note}", err=True)
