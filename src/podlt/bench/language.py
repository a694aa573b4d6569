"""Language models of the sizes that people train, as plain modules: BERT-base, GPT-2 124M, and a LLaMA of 300M."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from podlt.program.ir import FieldSpec

TOKENS = 64
"""Of an example."""


class SelfAttention(nn.Module):
    """Attention of several heads.

    Args:
        width: of a token.
        heads: how many.
        causal: whether a token sees those before it only.
        rotary: whether positions turn queries and keys.
        bias: of the linear layers.
    """

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, width: int, heads: int, *, causal: bool, rotary: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.heads, self.causal, self.rotary = heads, causal, rotary
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)
        if rotary:
            half = width // heads // 2
            angles = torch.arange(TOKENS)[:, None] * 10000.0 ** (-torch.arange(half) / half)
            self.register_buffer("cos", angles.cos().repeat(1, 2), persistent=False)
            self.register_buffer("sin", angles.sin().repeat(1, 2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        examples, tokens, width = x.shape
        parts = self.qkv(x).view(examples, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = parts[0], parts[1], parts[2]
        if self.rotary:
            q, k = self._turned(q), self._turned(k)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(examples, tokens, width))
        return out

    def _turned(self, x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, -1)
        return x * self.cos + torch.cat([-second, first], -1) * self.sin


class Gated(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return out


class DecoderBlock(nn.Module):
    """Attention and a perceptron, each with what went in added.

    Args:
        attention: the first part.
        perceptron: the second.
        norms: before each part (or behind it).
        before: where the norms are.
    """

    def __init__(
        self, attention: nn.Module, perceptron: nn.Module, norms: tuple[nn.Module, nn.Module], *, before: bool
    ) -> None:
        super().__init__()
        self.attention, self.perceptron, self.before = attention, perceptron, before
        self.first, self.second = norms

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.before:
            x = x + self.attention(self.first(x))
            added: torch.Tensor = x + self.perceptron(self.second(x))
            return added
        x = self.first(x + self.attention(x))
        out: torch.Tensor = self.second(x + self.perceptron(x))
        return out


class LanguageModel(nn.Module):
    """Embeddings, blocks, and scores for every word.

    Args:
        words: of the vocabulary.
        width: of a token.
        blocks: in order.
        norm: before the scores.
        positions: whether they have an embedding.
        tied: whether the scores' weight is the embedding's.
    """

    def __init__(
        self, words: int, width: int, blocks: list[nn.Module], norm: nn.Module, *, positions: bool, tied: bool
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.place = nn.Parameter(torch.zeros(TOKENS, width)) if positions else None
        self.blocks, self.norm = nn.ModuleList(blocks), norm
        self.head = nn.Linear(width, words, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(x)
        if self.place is not None:
            hidden = hidden + self.place
        for block in self.blocks:
            hidden = block(hidden)
        out: torch.Tensor = self.head(self.norm(hidden))
        return out


def _perceptron(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


def bert(layers: int = 12) -> nn.Module:
    """The shapes of BERT-base with its masked language model's head: 110M parameters."""
    width = 768
    blocks: list[nn.Module] = [
        DecoderBlock(
            SelfAttention(width, 12, causal=False),
            _perceptron(width),
            (nn.LayerNorm(width), nn.LayerNorm(width)),
            before=False,
        )
        for _ in range(layers)
    ]
    head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
    return LanguageModel(30_522, width, blocks, head, positions=True, tied=True)


def gpt2(layers: int = 12) -> nn.Module:
    """The shapes of GPT-2 124M."""
    width = 768
    blocks: list[nn.Module] = [
        DecoderBlock(
            SelfAttention(width, 12, causal=True),
            _perceptron(width),
            (nn.LayerNorm(width), nn.LayerNorm(width)),
            before=True,
        )
        for _ in range(layers)
    ]
    return LanguageModel(50_257, width, blocks, nn.LayerNorm(width), positions=True, tied=True)


def llama(layers: int = 18) -> nn.Module:
    """A LLaMA of 300M parameters: RMSNorm, rotary positions, SwiGLU, 32,000 words."""
    width = 1024
    blocks: list[nn.Module] = [
        DecoderBlock(
            SelfAttention(width, 16, causal=True, rotary=True, bias=False),
            Gated(width, 2816),
            (nn.RMSNorm(width), nn.RMSNorm(width)),
            before=True,
        )
        for _ in range(layers)
    ]
    return LanguageModel(32_000, width, blocks, nn.RMSNorm(width), positions=False, tied=False)


MODELS: dict[str, Callable[[int], nn.Module]] = {"bert": bert, "gpt2": gpt2, "llama": llama}
WORDS = {"bert": 30_522, "gpt2": 50_257, "llama": 32_000, "": 5}
LAYERS = {"bert": 12, "gpt2": 12, "llama": 18}

FIELDS = [FieldSpec("x", "i64", (TOKENS,), None, "input"), FieldSpec("y", "i64", (TOKENS,), None, "label")]


def examples_of(name: str, count: int) -> dict[str, torch.Tensor]:
    """Examples of random words, with the same words as labels."""
    x = torch.randint(0, WORDS[name], (count, TOKENS), generator=torch.Generator().manual_seed(1))
    return {"x": x, "y": x.roll(-1, 1)}


def mean_over_tokens(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The usual loss."""
    return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
