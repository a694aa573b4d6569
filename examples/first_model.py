"""A network of your own, on arrays of your own, over twelve workers of whom three cheat: python first_model.py"""

from sklearn.datasets import load_digits
from torch import nn, optim

import podlt


class Digits(nn.Module):
    """8 x 8 pixels to scores of ten classes."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x):
        return self.layers(x / 16)


if __name__ == "__main__":
    pixels, digits = load_digits(return_X_y=True)
    model = Digits()
    result = podlt.train(
        model,
        (pixels.astype("float32"), digits),
        loss=nn.CrossEntropyLoss(),
        optimizer=optim.AdamW(model.parameters(), lr=0.01),
        epochs=8,
        workers=12,
        batch_size=120,
        test_fraction=0.2,
        cheats=["2:sign-flip", "1:random"],
        progress=True,
    )
    print(result, result.history.tail(), sep="\n")
    assert podlt.verify(result.run).ok
