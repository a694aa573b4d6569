"""Models to begin with, each named as `podlt.models:NAME` in a recipe."""

from __future__ import annotations

import itertools

import torch
from torch import nn


class Unit(nn.Module):
    """Numbers of mean 0 and deviation 1 to the unit of what is predicted, such as euros."""

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of any shape."""
        return x * self.deviation + self.mean


def in_unit(network: nn.Sequential, mean: float, deviation: float) -> nn.Sequential:
    """The network, with a `Unit` behind it if there is one to speak of."""
    return network if (mean, deviation) == (0.0, 1.0) else network.append(Unit(mean, deviation))


def mlp(inputs: int, hidden: int, outputs: int, mean: float = 0.0, deviation: float = 1.0) -> nn.Module:
    """A perceptron with one hidden layer: (n, inputs) -> (n, outputs).

    Args:
        inputs: numbers of an example, however they are shaped.
        hidden: of the layer between.
        outputs: classes, or 1 for a number.
        mean: of the number that is predicted: where the outputs begin.
        deviation: likewise.
    """
    network = nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    return in_unit(network, mean, deviation)


class Image(nn.Module):
    """Examples of pixels to images: (n, channels * side * side) -> (n, channels, side, side)."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.shape = (channels, side, side)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The images."""
        return x.reshape(x.shape[0], *self.shape)


def cnn(side: int = 28, channels: int = 1, outputs: int = 10) -> nn.Module:
    """A small network of two strided convolutions: 20,490 parameters on 28 x 28 images."""
    after = (side + 3) // 4  # each convolution halves it, rounded up
    return nn.Sequential(
        Image(channels, side),
        nn.Conv2d(channels, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * after * after, outputs),
    )


class EmbeddingMLP(nn.Module):
    """Embeddings of categories, and numbers: (n, columns) whole numbers and (n, numeric) floats -> (n, outputs)."""

    def __init__(
        self,
        cardinalities: list[int],
        numeric: int,
        hidden: int = 64,
        outputs: int = 2,
        mean: float = 0.0,
        deviation: float = 1.0,
    ) -> None:
        super().__init__()
        widths = [min(8, (size + 1) // 2 + 1) for size in cardinalities]
        self.embeddings = nn.ModuleList(nn.Embedding(size, w) for size, w in zip(cardinalities, widths, strict=True))
        layers = nn.Sequential(
            nn.Linear(sum(widths) + numeric, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden // 2),
            nn.ReLU(),
            nn.Linear(hidden // 2, outputs),
        )
        self.layers = in_unit(layers, mean, deviation)

    def forward(self, numeric: torch.Tensor, categorical: torch.Tensor) -> torch.Tensor:
        """Logits."""
        parts = [embedding(categorical[:, i]) for i, embedding in enumerate(self.embeddings)]
        return self.layers(torch.cat([*parts, numeric], dim=1))  # type: ignore[no-any-return]


class CategoryMLP(EmbeddingMLP):
    """Embeddings of categories alone: (n, columns) whole numbers -> (n, outputs)."""

    def forward(self, categorical: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Logits."""
        parts = [embedding(categorical[:, i]) for i, embedding in enumerate(self.embeddings)]
        return self.layers(torch.cat(parts, dim=1))  # type: ignore[no-any-return]


def embedding_mlp(
    cardinalities: list[int],
    numeric: int,
    hidden: int = 64,
    outputs: int = 2,
    mean: float = 0.0,
    deviation: float = 1.0,
) -> nn.Module:
    """A network for tables; in a recipe, args = {cardinalities = "@cardinalities", numeric = 7}.

    Args:
        cardinalities: values of each categorical column, and one for any other.
        numeric: columns of numbers and dates.
        hidden: of the first layer.
        outputs: classes, or 1 for a number.
        mean: of the number that is predicted: where the outputs begin.
        deviation: likewise.
    """
    return EmbeddingMLP(cardinalities, numeric, hidden, outputs, mean, deviation)


def category_mlp(
    cardinalities: list[int], hidden: int = 64, outputs: int = 2, mean: float = 0.0, deviation: float = 1.0
) -> nn.Module:
    """The same for tables of categories alone. Arguments as `embedding_mlp`."""
    return CategoryMLP(cardinalities, 0, hidden, outputs, mean, deviation)


class TransformerBlock(nn.Module):
    """One layer of a transformer: attention, then a perceptron, each added to what came in."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, positions, width) -> the same."""
        examples, positions, width = x.shape
        q, k, v = (
            part.view(examples, positions, self.heads, width // self.heads).transpose(1, 2)
            for part in self.attend(self.first(x)).split(width, dim=2)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.dropout(self.project(mixed.transpose(1, 2).reshape(examples, positions, width)))
        x = x + self.dropout(self.down(nn.functional.gelu(self.up(self.second(x)))))
        return x


class GPT(nn.Module):
    """A small character transformer with tied weights."""

    def __init__(self, vocabulary: int, context: int, layers: int, heads: int, width: int, dropout: float) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, positions) whole numbers -> (n, positions, vocabulary) logits."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.norm(self.blocks(self.tokens(tokens) + self.positions(place))))  # type: ignore[no-any-return]


def gpt(
    vocabulary: int, context: int = 64, layers: int = 4, heads: int = 4, width: int = 128, dropout: float = 0.0
) -> nn.Module:
    """A character transformer: 809,000 parameters as it stands, for a vocabulary of 90."""
    return GPT(vocabulary, context, layers, heads, width, dropout)


class Recurrent(nn.Module):
    """Embedding, a recurrent layer of either kind, and a head that is applied at every position."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], vocabulary: int, width: int, layers: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.layers = kind(width, width, num_layers=layers, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, positions) whole numbers -> (n, positions, vocabulary) logits."""
        hidden, _ = self.layers(self.tokens(tokens))
        return self.head(hidden)  # type: ignore[no-any-return]


def lstm(vocabulary: int, width: int = 64, layers: int = 1) -> nn.Module:
    """A character model with a long short-term memory."""
    return Recurrent(nn.LSTM, vocabulary, width, layers)


def gru(vocabulary: int, width: int = 64, layers: int = 1) -> nn.Module:
    """A character model with gated recurrent units."""
    return Recurrent(nn.GRU, vocabulary, width, layers)


class Residual(nn.Module):
    """Two convolutions with batch norm beside a shortcut, which is a convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(2))
        self.shortcut: nn.Module = nn.Identity()
        if (inputs, stride) != (outputs, 1):
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        inner = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.shortcut(x) + self.norms[1](self.second(inner)))


def resnet18(side: int = 28, channels: int = 1, outputs: int = 10) -> nn.Module:
    """ResNet-18 with the stem for small images (a convolution 3 x 3, no pooling): 11.2 million parameters."""
    widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    blocks = [Residual(i, o, 1 if i == o else 2) for i, o in itertools.pairwise(widths)]
    stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, outputs)
    return nn.Sequential(Image(channels, side), *stem, *blocks, *head)


def resnet(side: int = 28, channels: int = 1, width: int = 16, blocks: int = 2, outputs: int = 10) -> nn.Module:
    """Residual blocks after a pooled convolution; batch statistics are those of a shard, not of the whole block."""
    return nn.Sequential(
        Image(channels, side),
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        *(Residual(width, width) for _ in range(blocks)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, outputs),
    )
