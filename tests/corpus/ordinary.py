"""Models and losses as papers' code and forums have them, written by hand; and what is refused for a good reason."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from .rows import EXAMPLES, Row, cross_entropy, generator, images, mean_loss, next_words, numbers, words

FAMILY = "Written by hand"


class CausalBlock(nn.Module):
    """nanoGPT's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.size()
        q, k, v = self.qkv(self.norm1(x)).split(c, dim=2)
        q, k, v = (part.view(n, t, self.heads, c // self.heads).transpose(1, 2) for part in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=None, dropout_p=0.1, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).contiguous().view(n, t, c))
        return x + self.mlp(self.norm2(x))


class NanoGpt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe, self.drop = nn.Embedding(30, 16), nn.Embedding(16, 16), nn.Dropout(0.1)
        self.blocks, self.norm = nn.ModuleList([CausalBlock(16, 2) for _ in range(2)]), nn.LayerNorm(16)
        self.head = nn.Linear(16, 30, bias=False)
        self.wte.weight = self.head.weight

    def forward(self, idx: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.wte(idx) + self.wpe(torch.arange(0, idx.size(1))))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def double(i: int, o: int) -> nn.Module:
            layers = [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(True)]
            return nn.Sequential(*layers, nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(True))

        self.inc, self.down, self.up = double(1, 8), double(8, 16), nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.conv, self.outc = double(16, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.inc(x)
        second = self.up(self.down(F.max_pool2d(first, 2)))
        return self.outc(self.conv(torch.cat([first, second], 1)))


def pixels() -> dict[str, torch.Tensor]:
    """Images with a class for each pixel."""
    y = torch.randint(0, 3, (EXAMPLES, 16, 16), generator=generator(1))
    return {"x": torch.rand((EXAMPLES, 1, 16, 16), generator=generator()), "y": y}


def dice(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """One value an example: cross entropy and Dice."""
    out, truth = model(x).softmax(1), F.one_hot(y, 3).permute(0, 3, 1, 2)
    both = 2 * (out * truth).sum((1, 2, 3)) + 1
    return F.cross_entropy(model(x), y, reduction="none").mean((1, 2)) + 1 - both / (out + truth + 1).sum((1, 2, 3))


class Recommender(nn.Module):
    """Matrix factorisation with biases."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(20, 4), nn.Embedding(30, 4)
        self.user_bias, self.item_bias = nn.Embedding(20, 1), nn.Embedding(30, 1)

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        found = (self.user(user) * self.item(item)).sum(1)
        return found + self.user_bias(user).squeeze(1) + self.item_bias(item).squeeze(1)


def ratings() -> dict[str, torch.Tensor]:
    user, item = (torch.randint(0, n, (EXAMPLES,), generator=generator(n)) for n in (20, 30))
    return {"user": user, "item": item, "y": 5 * torch.rand(EXAMPLES, generator=generator())}


class DeepFm(nn.Module):
    """Categories and numbers: a factorisation machine beside a network."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList([nn.Embedding(10, 4) for _ in range(3)])
        self.linear, self.deep = nn.Linear(5, 1), nn.Sequential(nn.Linear(17, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        found = torch.stack([e(categories[:, i]) for i, e in enumerate(self.embeddings)], 1)
        crossed = 0.5 * (found.sum(1).pow(2) - found.pow(2).sum(1)).sum(1, keepdim=True)
        return (self.linear(x) + crossed + self.deep(torch.cat([found.flatten(1), x], 1))).squeeze(1)


def clicks() -> dict[str, torch.Tensor]:
    categories = torch.randint(0, 10, (EXAMPLES, 3), generator=generator(1))
    y = torch.randint(0, 2, (EXAMPLES,), generator=generator(2)).float()
    return {"x": torch.randn((EXAMPLES, 5), generator=generator()), "categories": categories, "y": y}


class Mixer(nn.Module):
    """MLP-Mixer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm1, self.norm2 = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16), nn.LayerNorm(16)
        self.tokens = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.channels, self.head = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return self.head((x + self.channels(self.norm2(x))).mean(1))


class Tcn(nn.Module):
    """A temporal convolutional network: weight norm, dilation, what lies ahead cut off."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.conv1, self.conv2 = norm(nn.Conv1d(1, 8, 3, padding=2)), norm(nn.Conv1d(8, 8, 3, padding=4, dilation=2))
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(F.relu(self.conv1(x.unsqueeze(1))[:, :, :-2]))
        return self.head(self.drop(F.relu(self.conv2(x)[:, :, :-4]))[:, :, -1])


class M5(nn.Module):
    """Speech commands from waves."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.pool1 = nn.Conv1d(1, 8, 16, stride=4), nn.BatchNorm1d(8), nn.MaxPool1d(2)
        self.conv2, self.bn2, self.fc1 = nn.Conv1d(8, 16, 3), nn.BatchNorm1d(16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool1(F.relu(self.bn1(self.conv1(x.unsqueeze(1)))))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.log_softmax(self.fc1(F.avg_pool1d(x, x.shape[-1]).squeeze(2)), dim=1)


class BiLstm(nn.Module):
    """Two layers, both directions, and attention over the words."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 8, padding_idx=0)
        self.lstm = nn.LSTM(8, 8, num_layers=2, bidirectional=True, dropout=0.2, batch_first=True)
        self.attention, self.head = nn.Linear(16, 1), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, _ = self.lstm(self.embed(x))
        weight = self.attention(out).squeeze(2).masked_fill(x == 0, -1e9).softmax(1)
        return self.head((weight.unsqueeze(2) * out).sum(1))


def padded_words() -> dict[str, torch.Tensor]:
    found = words(6, 30, 4)()
    found["x"][2:5, 4:] = 0
    return found


class Packed(BiLstm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lengths = (x != 0).sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(x), lengths, batch_first=True, enforce_sorted=False)
        return self.head(torch.cat([*self.lstm(packed)[1][0][-2:]], 1))


class Experts(nn.Module):
    """A mixture of experts with its router's two best, without loops over examples."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.head = nn.Linear(8, 4), nn.Linear(8, 3)
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)) for _ in range(4)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, chosen = torch.topk(self.router(x).softmax(1), 2, dim=1)
        gates = torch.zeros(len(x), 4).scatter(1, chosen, weight / weight.sum(1, keepdim=True))
        return self.head((gates.unsqueeze(2) * torch.stack([expert(x) for expert in self.experts], 1)).sum(1))


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.PReLU(), nn.Linear(16, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        anchor, positive, negative = (F.normalize(self.net(part), dim=1) for part in x.unbind(1))
        return F.triplet_margin_loss(anchor, positive, negative)


def triplets() -> dict[str, torch.Tensor]:
    return {"x": torch.randn((EXAMPLES, 3, 8), generator=generator())}


class Distilled(nn.Module):
    """A teacher in eval mode, frozen, and its student."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3)).eval()
        self.teacher.requires_grad_(False)
        self.student = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def distillation(model: Distilled, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        soft = F.softmax(model.teacher(x) / 2.0, dim=-1)
    out = model.student(x)
    kl = F.kl_div(F.log_softmax(out / 2.0, dim=-1), soft, reduction="batchmean") * 4.0
    return 0.5 * kl + 0.5 * F.cross_entropy(out, y)


class Mixture(nn.Module):
    """A mixture density network."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 16)
        self.pi, self.mu, self.sigma = nn.Linear(16, 3), nn.Linear(16, 3), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = torch.tanh(self.hidden(x))
        return self.pi(x), self.mu(x), F.softplus(self.sigma(x)) + 1e-3


def mixture_loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    pi, mu, sigma = model(x)
    each = torch.distributions.Normal(mu, sigma).log_prob(y.unsqueeze(1))
    return -torch.logsumexp(F.log_softmax(pi, 1) + each, 1).mean()


def quantiles(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    off = y.unsqueeze(1) - model(x)
    level = torch.tensor([0.1, 0.5, 0.9])
    return torch.max((level - 1) * off, level * off).mean()


class Diffusion(nn.Module):
    """A denoising diffusion model: noise of a step that is drawn is to be found."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.cumprod(1 - torch.linspace(1e-4, 0.2, 20), 0))
        self.net = nn.Sequential(nn.Linear(9, 32), nn.SiLU(), nn.Linear(32, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = (torch.rand(len(x)) * 20).long()
        noise, kept = torch.randn_like(x), self.kept[t].unsqueeze(1)
        noisy = kept.sqrt() * x + (1 - kept).sqrt() * noise
        return F.mse_loss(self.net(torch.cat([noisy, t.unsqueeze(1) / 20], 1)), noise)


class Gcn(nn.Module):
    """A graph network on one small graph, its matrix a buffer."""

    def __init__(self) -> None:
        super().__init__()
        near = (torch.rand((6, 6), generator=generator(3)) < 0.4).float() + torch.eye(6)
        self.register_buffer("adjacency", near / near.sum(1, keepdim=True))
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.elu(self.adjacency @ self.first(x.view(-1, 6, 4)))
        return (self.adjacency @ self.second(x)).mean(1)


class Siren(nn.Module):
    """Sines of Fourier features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(2, 16), nn.Linear(16, 16), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.sin(3 * self.second(torch.sin(3 * self.first(x))))).squeeze(1)


def weighted(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(x), y, weight=torch.tensor([1.0, 3.0, 0.5]))


def smoothed(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(x), y, weight=torch.tensor([1.0, 3.0, 0.5]), label_smoothing=0.1)


def masked_error(model: nn.Module, x: torch.Tensor, mask: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return ((model(x) - y) ** 2 * mask).sum() / mask.sum().clamp(min=1)


def gaps() -> dict[str, torch.Tensor]:
    x, y = (torch.randn((EXAMPLES, 4), generator=generator(seed)) for seed in (0, 1))
    mask = (torch.rand((EXAMPLES, 4), generator=generator(2)) < 0.6).float()
    mask[3] = 0
    return {"x": x, "mask": mask, "y": y}


class Dynamic(nn.Module):
    """PyTorch: control flow and weight sharing, by a value of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = F.relu(self.layer(x))
            if x.sum() > 100:
                break
        return self.head(x)


def info_nce(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    z = F.normalize(model(x), dim=1)
    return F.cross_entropy(z @ z.T / math.sqrt(2), torch.arange(len(z)))


def ctc(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    scores = F.log_softmax(model(x).view(len(x), 4, 3), 2).transpose(0, 1)
    one = torch.ones(len(x), dtype=torch.long)
    return F.ctc_loss(scores, y.clamp(min=1).unsqueeze(1), 4 * one, one)


def penalised(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(x), y) + 1e-3 * sum(p.square().sum() for p in model.parameters())


def mlp(*sizes: int) -> Callable[[], nn.Module]:
    layers = [part for i, o in itertools.pairwise(sizes) for part in (nn.Linear(i, o), nn.ReLU())]
    return lambda: nn.Sequential(*layers[:-1])


def row(
    name: str, make: Callable[[], nn.Module], examples: Callable[[], dict[str, torch.Tensor]], loss: object, **o: object
) -> Row:
    return Row(FAMILY, name, make, examples, loss, **o)  # type: ignore[arg-type]


THREE = numbers(4, 3)
ITSELF = lambda model, *batch: model(*batch[:-1])  # noqa: E731

ROWS = [
    row("linear regression", lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), numbers(4), mean_loss(F.mse_loss)),
    row("logistic regression", mlp(4, 3), THREE, "cross_entropy"),
    row("nanoGPT", NanoGpt, next_words(8, 30), lambda m, x, y: m(x, y)),
    row("U-Net", UNet, pixels, cross_entropy),
    row("U-Net with Dice", UNet, pixels, dice),
    row("matrix factorisation", Recommender, ratings, mean_loss(F.mse_loss)),
    row("DeepFM", DeepFm, clicks, mean_loss(F.binary_cross_entropy_with_logits)),
    row("MLP-Mixer", Mixer, images(3, 16, 5), cross_entropy),
    row("TCN with weight norm", Tcn, numbers(12, 5), cross_entropy),
    row("M5 for waves", M5, numbers(80, 5), mean_loss(F.nll_loss)),
    row("bidirectional LSTM with attention", BiLstm, padded_words, cross_entropy),
    row("mixture of experts", Experts, numbers(8, 3), cross_entropy),
    row("siamese network, triplets", Siamese, triplets, lambda m, x: m(x)),
    row("distillation", Distilled, numbers(8, 3), distillation),
    row("mixture density network", Mixture, numbers(4), mixture_loss),
    row("quantile regression", mlp(4, 16, 3), numbers(4), quantiles),
    row("diffusion", Diffusion, lambda: {"x": torch.randn((EXAMPLES, 8), generator=generator())}, lambda m, x: m(x)),
    row("graph network", Gcn, numbers(24, 3), cross_entropy),
    row("SIREN", Siren, numbers(2), mean_loss(F.mse_loss)),
    row("class weights", mlp(4, 16, 3), THREE, weighted),
    row("class weights and smoothing", mlp(4, 16, 3), THREE, smoothed),
    row("masked error", mlp(4, 16, 4), gaps, masked_error),
    row("SimCLR's loss", mlp(4, 16, 4), THREE, info_nce, refused="the examples of a batch see each other"),
    row("CTC", mlp(4, 16, 12), THREE, ctc),
    row("packed sequences", Packed, padded_words, cross_entropy, refused="pack_padded_sequence"),
    row("control flow by data", Dynamic, THREE, cross_entropy, refused="depends on a value of its data"),
    row("mean loss with an L2 term", mlp(4, 16, 3), THREE, penalised),
]
