"""The continuation of a text by a language model, one token after another."""

from __future__ import annotations

import torch

from podlt.errors import UsageError
from podlt.inference.predictor import Predictor
from podlt.program.losses import CLASS_DIMENSION, scores


@torch.no_grad()
def continued(predictor: Predictor, prompt: str, length: int = 200, temperature: float = 0.0, seed: int = 0) -> str:
    """What a model of characters takes to follow.

    Args:
        predictor: of a run on a text.
        prompt: at least one character.
        length: how many characters to add.
        temperature: 0 takes the likeliest each time; 1 draws by the model's own probabilities.
        seed: of the draws.

    Raises:
        UsageError: the run's data are no text, the prompt is empty, or the loss says nothing of tokens.
    """
    description = predictor.description
    if description.data["kind"] != "text":
        raise UsageError(
            f"a prompt is for a model of texts; the run's data are {description.data['kind']}: give a file"
        )
    if not prompt:
        raise UsageError("expected a prompt of at least one character")
    if description.loss not in CLASS_DIMENSION:
        raise UsageError(f"loss {description.loss}: expected one of {', '.join(CLASS_DIMENSION)} to continue a text")
    vocabulary: str = description.data["vocabulary"]
    code_of = {character: code for code, character in enumerate(vocabulary, 1)}
    codes = [code_of.get(character, 0) for character in prompt]
    (context,) = description.inputs[0].shape
    generator = torch.Generator().manual_seed(seed)
    for _ in range(length):
        window = torch.tensor([codes[-context:]])
        output = scores(predictor.module(window)).movedim(CLASS_DIMENSION[description.loss], -1)[0, -1]
        output[0] = -torch.inf  # the code of every character that the training text does not have
        if temperature > 0:
            likely = torch.softmax(output / temperature, 0)
            codes.append(int(torch.multinomial(likely, 1, generator=generator)))
        else:
            codes.append(int(output.argmax()))
    return prompt + "".join(vocabulary[code - 1] for code in codes[len(prompt) :])
