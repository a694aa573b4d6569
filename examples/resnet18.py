"""ResNet-18 on a folder of images, one sub-folder a class, over 12 workers of whom two cheat:
python resnet18.py FOLDER (make_images.py makes one). Needs pip install '.[images]' torchvision."""

import sys

from torchvision.models import resnet18

import podlt

if __name__ == "__main__":
    classes = 10
    result = podlt.train(
        resnet18(num_classes=classes),
        sys.argv[1],
        data={"size": [32, 32]},
        optimizer={"name": "sgd", "lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4, "no_decay": True},
        epochs=6,
        workers=12,
        batch_size=120,
        test_fraction=0.2,
        cheats=["2:sign-flip"],
        progress=True,
    )
    print(result, result.evicted)
