"""torchvision's families: small images and few classes, and narrow layers where a family lets its user choose."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .rows import EXAMPLES, Row, cross_entropy, generator, images

FAMILY = "torchvision"
NEEDS = ("torchvision",)
CLASSES = 5


def models() -> Any:
    """`torchvision.models`, for a torch that its C library was not built for too: the models are plain Python."""
    import torchvision.models

    return torchvision.models


def alexnet() -> nn.Module:
    model = models().alexnet(num_classes=CLASSES)
    model.avgpool = nn.AdaptiveAvgPool2d(1)  # its hidden layers have 4096 values each: here 64
    model.classifier[1], model.classifier[4] = nn.Linear(256, 64), nn.Linear(64, 64)
    model.classifier[6] = nn.Linear(64, CLASSES)
    return model


def vgg(norm: bool) -> nn.Module:
    from torchvision.models.vgg import VGG, make_layers

    layers = make_layers([8, "M", 16, "M", 16, 16, "M", 32, "M", 32, "M"], batch_norm=norm)
    model = VGG(layers, num_classes=CLASSES)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier[0], model.classifier[3] = nn.Linear(32, 64), nn.Linear(64, 64)
    model.classifier[6] = nn.Linear(64, CLASSES)
    return model


def resnet(block: str, **options: Any) -> nn.Module:
    found = models().resnet
    return found.ResNet(getattr(found, block), [1, 1, 1, 1], num_classes=CLASSES, **options)


def auxiliary_loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Of a model with auxiliary heads, as torchvision's reference trains it."""
    found = model(x)
    others = [getattr(found, name) for name in found._fields if name != "logits"]
    main = functional.cross_entropy(found.logits, y)
    return main + sum(0.3 * functional.cross_entropy(other, y) for other in others if other is not None)


def segmentation_loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Pixels without a class (255) are left out."""
    return functional.cross_entropy(model(x)["out"], y, ignore_index=255)


def labelled_pixels() -> dict[str, torch.Tensor]:
    y = torch.randint(0, CLASSES, (EXAMPLES, 32, 32), generator=generator(1))
    y[:, :3], y[2, :20] = 255, 255
    return {"x": torch.rand((EXAMPLES, 3, 32, 32), generator=generator()), "y": y}


def named(name: str, **options: Any) -> Any:
    return lambda: getattr(models(), name)(num_classes=CLASSES, **options)


def segmenter(name: str) -> Any:
    options = {"weights": None, "weights_backbone": None, "num_classes": CLASSES}
    return lambda: getattr(models().segmentation, name)(**options)


def row(name: str, make: Any, size: int = 32, **options: Any) -> Row:
    options = {"loss": cross_entropy, "lr": 1e-3, **options}  # BatchNorm over eight examples: larger steps are chaos
    return Row(FAMILY, name, make, options.pop("examples", images(3, size, CLASSES)), needs=NEEDS, **options)


ROWS = [
    row("AlexNet", alexnet, 64),
    row("VGG", lambda: vgg(False)),
    row("VGG with BatchNorm", lambda: vgg(True)),
    row("ResNet-18", named("resnet18")),
    row("ResNet, bottlenecks", lambda: resnet("Bottleneck", width_per_group=8)),
    row("Wide ResNet", lambda: resnet("Bottleneck", width_per_group=16)),
    row("ResNeXt", lambda: resnet("Bottleneck", groups=4, width_per_group=4)),
    row(
        "DenseNet",
        lambda: models().DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, num_classes=CLASSES),
        precise=False,
    ),
    row("GoogLeNet", named("googlenet", aux_logits=True, init_weights=True), 64, loss=auxiliary_loss, precise=False),
    row("Inception v3", named("inception_v3", aux_logits=False, init_weights=True), 75, precise=False),
    row("MobileNet v2", named("mobilenet_v2", width_mult=0.25), precise=False),
    row("MobileNet v3", named("mobilenet_v3_small", width_mult=0.5)),
    row("ShuffleNet v2", named("shufflenet_v2_x0_5"), precise=False),
    row("SqueezeNet", named("squeezenet1_1"), 48),
    row("MNASNet", named("mnasnet0_5"), precise=False),
    row("EfficientNet", named("efficientnet_b0"), precise=False),
    row("RegNet", named("regnet_y_400mf"), precise=False),
    row(
        "ConvNeXt",
        lambda: models().convnext.ConvNeXt(
            [models().convnext.CNBlockConfig(8, 16, 1), models().convnext.CNBlockConfig(16, None, 1)],
            stochastic_depth_prob=0.1,
            num_classes=CLASSES,
        ),
    ),
    row(
        "Vision Transformer",
        lambda: models().VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=CLASSES
        ),
    ),
    row(
        "Swin Transformer",
        lambda: models().SwinTransformer(
            patch_size=[2, 2],
            embed_dim=8,
            depths=[2, 2],
            num_heads=[2, 2],
            window_size=[4, 4],
            num_classes=CLASSES,
        ),
    ),
    row(
        "MaxViT",
        lambda: models().MaxVit(
            input_size=(32, 32),
            stem_channels=8,
            partition_size=4,
            block_channels=[8, 16],
            block_layers=[1, 1],
            head_dim=8,
            stochastic_depth_prob=0.1,
            num_classes=CLASSES,
        ),
    ),
    row(
        "LR-ASPP (segmentation)",
        segmenter("lraspp_mobilenet_v3_large"),
        examples=labelled_pixels,
        loss=segmentation_loss,
    ),
    row(
        "R3D (video)",
        lambda: models().video.r3d_18(num_classes=CLASSES),
        examples=lambda: {
            "x": torch.rand((EXAMPLES, 3, 2, 16, 16), generator=generator()),
            "y": torch.randint(0, CLASSES, (EXAMPLES,), generator=generator(1)),
        },
        precise=False,
    ),
]
