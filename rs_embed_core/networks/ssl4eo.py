"""SSL4EO-S12 backbones (forward stage): timm's ViT-S/16, ResNet-50 and ResNet-18, as torchgeo publishes them.

Wang et al. 2023, "SSL4EO-S12: A Large-Scale Multi-Modal, Multi-Temporal Dataset for Self-Supervised Learning in Earth
Observation", arXiv:2211.07044 (code zhu-xlab/SSL4EO-S12). timm's classes are the published networks and keep the keys,
so they are used as they are, less their classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor

from rs_embed_core.networks import vit
from rs_embed_core.networks.features import Features

_IMAGE_SIZE: Final = 224


class ClassTokenVit(vit.Vit):
    """A vision transformer whose image vector is its class token, as its authors evaluate it."""

    def forward(self, image: Tensor) -> Features:  # type: ignore[override]  # timm's returns class scores
        """Features of ``image [B, C, 224, 224]``.

        Returns:
            ``grid`` ``[B, D, 14, 14]``: normed patch tokens; both pooled vectors: the normed class token.

        Raises:
            ValueError: The image has another shape.
        """
        vit.check_image(image, self.in_chans, self.patch_embed.img_size)
        tokens = self.forward_features(image)  # [B, 1 + h w, D]
        first = tokens[:, 0]
        return Features(vit.patch_grid(tokens[:, 1:], self.patch_embed.grid_size), first, first)


class CellsOfResNet(ResNet):
    """A residual network whose grid is its last stage; the mean over it is the published image vector."""

    def forward(self, image: Tensor) -> Features:  # type: ignore[override]  # timm's returns class scores
        """Features of ``image [B, C, 224, 224]``: grid ``[B, D, 7, 7]``.

        Raises:
            ValueError: The image has another shape.
        """
        vit.check_image(image, self.get_parameter("conv1.weight").shape[1], (_IMAGE_SIZE, _IMAGE_SIZE))
        return Features(self.forward_features(image))


# timm's own arguments of vit_small_patch16_224, resnet50 and resnet18
_ARCHITECTURES: Final[Mapping[str, Callable[..., ClassTokenVit | CellsOfResNet]]] = {
    "vit_small": partial(ClassTokenVit, img_size=_IMAGE_SIZE, patch_size=16, embed_dim=384, depth=12, num_heads=6),
    "resnet50": partial(CellsOfResNet, Bottleneck, layers=(3, 4, 6, 3)),  # type: ignore[arg-type]  # timm's gap
    "resnet18": partial(CellsOfResNet, BasicBlock, layers=(2, 2, 2, 2)),  # type: ignore[arg-type]  # see above
}


def build(*, architecture: str, bands: int, **sizes: int | tuple[int, ...]) -> ClassTokenVit | CellsOfResNet:
    """The network of one variant, its weights to be loaded.

    Args:
        architecture: ``vit_small``, ``resnet50`` or ``resnet18``.
        bands: of the image.
        sizes: arguments of timm's constructor, in place of the published network's.

    Raises:
        ValueError: no such architecture.
    """
    if architecture not in _ARCHITECTURES:
        raise ValueError(f"there is no architecture {architecture!r}; there are {', '.join(_ARCHITECTURES)}")
    return _ARCHITECTURES[architecture](in_chans=bands, num_classes=0, **sizes)


def with_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with the counters of its batch norms, which training reads, as zeros where it has none."""
    norms = [key.removesuffix("running_mean") for key in state if key.endswith(".running_mean")]
    return {f"{norm}num_batches_tracked": torch.zeros((), dtype=torch.long) for norm in norms} | state
