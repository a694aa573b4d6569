"""What a model gives for some examples, in words: the class and probabilities, a probability, or the number."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
import torch

from podlt.errors import UsageError
from podlt.inference.description import Description
from podlt.program.losses import CLASS_DIMENSION

MANY_CLASSES = 100
"""From here on only the probability of the predicted class is given."""

Columns = dict[str, pa.Array]


def named_outputs(description: Description, output: torch.Tensor) -> Columns:
    """The columns of predictions, by the run's loss.

    Args:
        description: names loss and classes.
        output: what the model gives, [n, ...].

    Raises:
        UsageError: it has not the shape that the loss takes.
    """
    output = output.detach().to(torch.float32)
    if description.loss in CLASS_DIMENSION:
        return _classes(description, output)
    return _KINDS.get(description.loss, _raw)(description, output)


def _classes(description: Description, output: torch.Tensor) -> Columns:
    """cross_entropy, nll and token_cross_entropy: the likeliest class; the probabilities where there is one an
    example."""
    dimension = CLASS_DIMENSION[description.loss]
    if output.ndim < 2:
        raise UsageError(f"{description.loss}: expected a score for each class, got an output of {tuple(output.shape)}")
    names = _class_names(description, output.shape[dimension])
    guesses = output.argmax(dimension)
    if guesses.ndim > 1:
        flat = guesses.reshape(len(guesses), -1).tolist()
        return {"prediction": pa.array([[names[code] for code in line] for line in flat], pa.list_(pa.string()))}
    likely = output.exp() if description.loss == "nll" else torch.softmax(output, dimension)
    columns = {"prediction": pa.array([names[code] for code in guesses.tolist()], pa.string())}
    if len(names) > MANY_CLASSES:
        return columns | {"probability": _floats(likely.gather(1, guesses[:, None])[:, 0])}
    return columns | {f"probability_{name}": _floats(likely[:, code]) for code, name in enumerate(names)}


def _binary(description: Description, output: torch.Tensor) -> Columns:
    """bce: the probability of the second class, or of each label where an example has several."""
    flat = output.reshape(len(output), -1)
    likely = torch.sigmoid(flat)
    if flat.shape[1] > 1:
        return {f"probability_{place}": _floats(likely[:, place]) for place in range(flat.shape[1])}
    names = _class_names(description, 2)
    guesses = (flat[:, 0] > 0).to(torch.int64).tolist()
    prediction = pa.array([names[code] for code in guesses], pa.string())
    return {"prediction": prediction, "probability": _floats(likely[:, 0])}


def _numbers(description: Description, output: torch.Tensor) -> Columns:
    """mse, l1, smooth_l1 and huber: the numbers, in the label's own unit."""
    flat = output.reshape(len(output), -1)
    if flat.shape[1] == 1:
        return {"prediction": _floats(flat[:, 0])}
    return {f"prediction_{place}": _floats(flat[:, place]) for place in range(flat.shape[1])}


def _raw(description: Description, output: torch.Tensor) -> Columns:
    """A loss of the user's own: the outputs as they are, and the class of the highest if there is one a class."""
    flat = output.reshape(len(output), -1)
    names = description.classes
    if output.ndim != 2 or len(names) < 2 or flat.shape[1] != len(names):
        return {f"output_{place}": _floats(flat[:, place]) for place in range(flat.shape[1])}
    prediction = pa.array([names[code] for code in flat.argmax(1).tolist()], pa.string())
    scores = {f"output_{name}": _floats(flat[:, code]) for code, name in enumerate(names)}
    return {"prediction": prediction, **scores}


def _class_names(description: Description, count: int) -> list[str]:
    """A name for each of so many scores: a model may have more than the data have classes."""
    names = description.classes[:count]
    return [*names, *map(str, range(len(names), count))]


def _floats(values: torch.Tensor) -> pa.Array:
    return pa.array(values.numpy(), pa.float32())


_KINDS: Mapping[str, Callable[[Description, torch.Tensor], Columns]] = {
    "bce": _binary,
    "mse": _numbers,
    "l1": _numbers,
    "smooth_l1": _numbers,
    "huber": _numbers,
}
