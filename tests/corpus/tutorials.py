"""The models of PyTorch's tutorials and examples, as they are written there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .rows import EXAMPLES, Row, cross_entropy, generator, images, mean_loss, next_words, numbers, words

FAMILY = "PyTorch's tutorials and examples"


class Lenet(nn.Module):
    """Training a classifier (CIFAR-10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.pool, self.conv2 = nn.Conv2d(3, 6, 5), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 5 * 5, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = torch.flatten(self.pool(F.relu(self.conv2(x))), 1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Mnist(nn.Module):
    """examples/mnist."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, 1), nn.Conv2d(8, 16, 3, 1)
        self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(2304, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        x = F.relu(self.fc1(torch.flatten(self.dropout1(x), 1)))
        return F.log_softmax(self.fc2(self.dropout2(x)), dim=1)


class Quickstart(nn.Module):
    """Quickstart (FashionMNIST)."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.stack = nn.Sequential(nn.Linear(28 * 28, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stack(self.flatten(x))


class CharRnn(nn.Module):
    """Classifying names with a character-level RNN."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.h2o, self.softmax = nn.RNN(30, 16), nn.Linear(16, 4), nn.LogSoftmax(dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, hidden = self.rnn(F.one_hot(x, 30).float().transpose(0, 1))
        return self.softmax(self.h2o(hidden[0]))


class CharGenerator(nn.Module):
    """Generating names with a character-level RNN: cells written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.i2h, self.i2o, self.o2o = nn.Linear(30 + 16, 16), nn.Linear(30 + 16, 30), nn.Linear(16 + 30, 30)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden, outputs = torch.zeros(x.shape[0], 16), []
        for letter in F.one_hot(x, 30).float().unbind(1):
            combined = torch.cat((letter, hidden), 1)
            hidden, output = self.i2h(combined), self.i2o(combined)
            outputs.append(F.log_softmax(self.dropout(self.o2o(torch.cat((hidden, output), 1))), 1))
        return torch.stack(outputs, 2)


class Tagger(nn.Module):
    """Sequence models: an LSTM for part-of-speech tagging."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings, self.lstm, self.hidden2tag = nn.Embedding(30, 6), nn.LSTM(6, 6), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, _ = self.lstm(self.embeddings(x).transpose(0, 1))
        return F.log_softmax(self.hidden2tag(out), dim=2).permute(1, 2, 0)


class Seq2seq(nn.Module):
    """Translation with a sequence to sequence network and attention (Bahdanau)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_embedding, self.encoder = nn.Embedding(30, 8), nn.GRU(8, 8, batch_first=True)
        self.embedding, self.gru = nn.Embedding(30, 8), nn.GRU(16, 8, batch_first=True)
        self.wa, self.ua, self.va, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 1), nn.Linear(8, 30)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        memory, hidden = self.encoder(self.dropout(self.encoder_embedding(x)))
        word = torch.empty(x.size(0), 1, dtype=torch.long).fill_(0)
        outputs = []
        for i in range(target.shape[1]):
            scores = self.va(torch.tanh(self.wa(hidden.permute(1, 0, 2)) + self.ua(memory)))
            context = torch.bmm(F.softmax(scores.squeeze(2).unsqueeze(1), dim=-1), memory)
            step, hidden = self.gru(torch.cat((self.dropout(self.embedding(word)), context), 2), hidden)
            outputs.append(self.out(step))
            word = target[:, i].unsqueeze(1)
        return F.log_softmax(torch.cat(outputs, 1), dim=-1)


class PositionalEncoding(nn.Module):
    def __init__(self, width: int, longest: int = 32) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        position = torch.arange(longest).unsqueeze(1)
        factor = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        table = torch.zeros(longest, width)
        table[:, 0::2], table[:, 1::2] = torch.sin(position * factor), torch.cos(position * factor)
        self.register_buffer("pe", table)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(x + self.pe[: x.size(1)])


class TransformerLm(nn.Module):
    """Language modelling with nn.TransformerEncoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(30, 16), PositionalEncoding(16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True), 2)
        self.linear = nn.Linear(16, 30)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        x = self.position(self.embedding(x) * math.sqrt(16))
        return self.linear(self.encoder(x, mask)).transpose(1, 2)


class Translator(nn.Module):
    """Language translation with nn.Transformer: padding masks, and a loss that ignores padding."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Transformer(16, 2, 1, 1, 32, dropout=0.1, batch_first=True)
        self.source, self.target = nn.Embedding(30, 16), nn.Embedding(30, 16)
        self.position, self.generator = PositionalEncoding(16), nn.Linear(16, 30)

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        out = self.transformer(
            self.position(self.source(x)),
            self.position(self.target(target)),
            tgt_mask=causal,
            src_key_padding_mask=x == 0,
            tgt_key_padding_mask=target == 0,
            memory_key_padding_mask=x == 0,
        )
        return self.generator(out)


def translator_loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(x, y[:, :-1]).reshape(-1, 30), y[:, 1:].reshape(-1), ignore_index=0)


def pairs() -> dict[str, torch.Tensor]:
    """Sentences and translations, padded with 0."""
    x, y = (torch.randint(1, 30, (EXAMPLES, 7), generator=generator(seed)) for seed in (0, 1))
    x[1:4, 4:] = 0
    y[2:6, 5:] = 0
    return {"x": x, "y": y}


class Discriminator(nn.Module):
    """DCGAN."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, 4, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(4, 8, 4, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8, 1, 4, 1, 0, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x).view(-1)


class Generator(nn.Module):
    """DCGAN, with the discriminator that judges it, frozen and in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(10, 8, 4, 1, 0, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(True),
            nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(True),
            nn.ConvTranspose2d(4, 1, 4, 2, 1, bias=False),
            nn.Tanh(),
        )
        self.judge = Discriminator().eval().requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.judge(self.main(x[:, :, None, None]))


class Ngram(nn.Module):
    """Word embeddings: an n-gram language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings, self.linear1, self.linear2 = nn.Embedding(30, 10), nn.Linear(20, 128), nn.Linear(128, 30)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.log_softmax(self.linear2(F.relu(self.linear1(self.embeddings(x).view(x.shape[0], -1)))), dim=1)


class Cbow(nn.Module):
    """word2vec: a continuous bag of words."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings, self.linear = nn.Embedding(30, 10, max_norm=None), nn.Linear(10, 30)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.embeddings(x).mean(1))


class SkipGram(nn.Module):
    """word2vec: skip-gram with negative samples."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Embedding(30, 10), nn.Embedding(30, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = torch.bmm(self.outer(x[:, 1:]), self.inner(x[:, 0]).unsqueeze(2)).squeeze(2)
        return -(F.logsigmoid(scores[:, 0]) + F.logsigmoid(-scores[:, 1:]).sum(1)).mean()


class Bag(nn.Module):
    """Text classification with nn.EmbeddingBag."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc = nn.EmbeddingBag(30, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.embedding(x))


class Vae(nn.Module):
    """examples/vae."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(64, 16), nn.Linear(16, 4), nn.Linear(16, 4)
        self.fc3, self.fc4 = nn.Linear(4, 16), nn.Linear(16, 64)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        hidden = F.relu(self.fc1(x.view(-1, 64)))
        mu, logvar = self.fc21(hidden), self.fc22(hidden)
        std = torch.exp(0.5 * logvar)
        z = mu + torch.randn_like(std) * std
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar


def vae_loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    out, mu, logvar = model(x)
    bce = F.binary_cross_entropy(out, x.view(-1, 64), reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


class Dqn(nn.Module):
    """Reinforcement learning (DQN): a policy and a target network."""

    def __init__(self) -> None:
        super().__init__()
        self.policy, self.target = (
            nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)) for _ in range(2)
        )


def dqn_loss(model: Any, x: torch.Tensor, then: torch.Tensor, action: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    chosen = model.policy(x).gather(1, action.unsqueeze(1))
    with torch.no_grad():
        expected = model.target(then).max(1).values * 0.99 + y
    return nn.SmoothL1Loss()(chosen, expected.unsqueeze(1))


def transitions() -> dict[str, torch.Tensor]:
    """States, next states, actions and rewards."""
    x, then = (torch.randn((EXAMPLES, 4), generator=generator(seed)) for seed in (0, 1))
    action = torch.randint(0, 2, (EXAMPLES,), generator=generator(2))
    return {"x": x, "then": then, "action": action, "y": torch.rand(EXAMPLES, generator=generator(3))}


class Policy(nn.Module):
    """examples/reinforcement_learning: actor and critic."""

    def __init__(self) -> None:
        super().__init__()
        self.affine1, self.action_head, self.value_head = nn.Linear(4, 32), nn.Linear(32, 2), nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.relu(self.affine1(x))
        return F.softmax(self.action_head(x), dim=-1), self.value_head(x)


def actor_critic_loss(
    model: nn.Module, x: torch.Tensor, then: torch.Tensor, action: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    probabilities, value = model(x)
    chosen = torch.distributions.Categorical(probabilities).log_prob(action)
    advantage = y - value.squeeze(1).detach()
    return (-chosen * advantage).sum() + F.smooth_l1_loss(value.squeeze(1), y, reduction="sum")


class SpatialTransformer(nn.Module):
    """Spatial transformer networks."""

    def __init__(self) -> None:
        super().__init__()
        self.localization, self.fc = nn.Sequential(nn.Flatten(), nn.Linear(64, 6)), nn.Linear(64, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = F.affine_grid(self.localization(x).view(-1, 2, 3), list(x.size()))
        return self.fc(F.grid_sample(x, grid).flatten(1))


class SuperResolution(nn.Module):
    """examples/super_resolution: ESPCN."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 5, 1, 2), nn.Conv2d(8, 8, 3, 1, 1)
        self.conv3, self.shuffle = nn.Conv2d(8, 4, 3, 1, 1), nn.PixelShuffle(2)
        for conv in (self.conv1, self.conv2):
            nn.init.orthogonal_(conv.weight, nn.init.calculate_gain("relu"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shuffle(self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))))


def pictures(size: int, target: int) -> Callable[[], dict[str, torch.Tensor]]:
    """Images with an image each."""
    return lambda: {
        "x": torch.rand((EXAMPLES, 1, size, size), generator=generator()),
        "y": torch.rand((EXAMPLES, 1, target, target), generator=generator(1)),
    }


ROWS = [
    Row(FAMILY, "LeNet for CIFAR-10", Lenet, images(3, 32, 10), cross_entropy),
    Row(FAMILY, "MNIST example with dropout", Mnist, images(1, 28, 10), mean_loss(F.nll_loss)),
    Row(FAMILY, "Quickstart MLP", Quickstart, images(1, 28, 10), cross_entropy),
    Row(FAMILY, "char-RNN classifier", CharRnn, words(5, 30, 4), mean_loss(F.nll_loss)),
    Row(FAMILY, "char-RNN generator", CharGenerator, next_words(5, 30), mean_loss(F.nll_loss)),
    Row(FAMILY, "LSTM tagger", Tagger, lambda: {**next_words(5, 5)()}, mean_loss(F.nll_loss)),
    Row(
        FAMILY,
        "seq2seq with attention",
        Seq2seq,
        next_words(5, 30),
        lambda m, x, y: F.nll_loss(m(x, y).flatten(0, 1), y.flatten()),
    ),
    Row(FAMILY, "transformer language model", TransformerLm, next_words(7, 30), cross_entropy),
    Row(FAMILY, "nn.Transformer translator", Translator, pairs, translator_loss),
    Row(
        FAMILY,
        "DCGAN discriminator",
        Discriminator,
        images(1, 16, 2),
        lambda m, x, y: nn.BCELoss()(m(x), y.float()),
    ),
    Row(
        FAMILY,
        "DCGAN generator",
        Generator,
        numbers(10, 2),
        lambda m, x, y: nn.BCELoss()(m(x), torch.full((len(x),), 1.0)),
    ),
    Row(FAMILY, "n-gram language model", Ngram, words(2, 30, 30), mean_loss(F.nll_loss)),
    Row(FAMILY, "word2vec CBOW", Cbow, words(4, 30, 30), cross_entropy),
    Row(FAMILY, "word2vec skip-gram", SkipGram, words(6, 30), lambda m, x, y: m(x)),
    Row(FAMILY, "EmbeddingBag text classifier", Bag, words(6, 30, 4), cross_entropy),
    Row(FAMILY, "VAE", Vae, images(1, 8, 2), vae_loss, lr=0.001),
    Row(FAMILY, "DQN", Dqn, transitions, dqn_loss),
    Row(FAMILY, "actor and critic", Policy, transitions, actor_critic_loss, lr=0.001),
    Row(
        FAMILY,
        "spatial transformer",
        SpatialTransformer,
        images(1, 8, 2),
        cross_entropy,
    ),
    Row(FAMILY, "super resolution (ESPCN)", SuperResolution, pictures(8, 16), mean_loss(F.mse_loss)),
]
