"""WildSAT: torchvision classifiers, fine-tuned with wildlife observations, and a linear head on their logits.

Daroya et al. 2025, "WildSAT: Learning Satellite Image Representations from Wildlife Observations",
arXiv:2412.14428 (code cvl-umass/wildsat). torchvision's classes are the published backbones, so they are used as
they are; state-dict names are those of the published checkpoints' ``satellite_state_dict``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from rs_embed_core.networks.features import Features
from rs_embed_core.networks.vit import check_image, patch_grid

_IMAGE_SIZE: Final = 224
# torchvision's own arguments of vit_b_16, resnet50 and swin_t (golden/wildsat/spec.md, "Network")
_BACKBONES: Final[Mapping[str, Callable[..., nn.Module]]] = {
    "vitb16": partial(
        VisionTransformer,
        image_size=_IMAGE_SIZE,
        patch_size=16,
        num_layers=12,
        num_heads=12,
        hidden_dim=768,
        mlp_dim=3072,
    ),
    "resnet50": partial(ResNet, block=Bottleneck, layers=(3, 4, 6, 3)),
    "swint": partial(
        SwinTransformer,
        patch_size=(4, 4),
        embed_dim=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        window_size=(7, 7),
    ),
}
_BRANCH: Final = "backbone3"  # of text, location and image; the files name the heads backbone1, 2 and 3
_LEADING: Final = re.compile(r"^(?:module\.|satellite_model\.|model\.)+")
_HEAD: Final = re.compile(r"^decoder\.backbone\.?(\d+)\.(?=\d)")


class WildSat(nn.Module):
    """A classifier and the image head.

    Args:
        backbone: torchvision's network, classifier included.
        classes: number of its logits.
        head_dim: width E of the image vector.
    """

    def __init__(self, backbone: nn.Module, *, classes: int, head_dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        head = nn.Sequential(nn.Linear(classes, head_dim, bias=False))
        self.decoder = nn.ModuleDict({_BRANCH: head})

    def forward(self, image: Tensor) -> Features:
        """Features of ``image [B, 3, 224, 224]``, values 0..1.

        Returns:
            Both pooled vectors: the image head's ``[B, E]``. ``grid``: the transformer's patch tokens after its
            norm, ``[B, D, 14, 14]``, which live in another space; of the other backbones the vector as one cell.

        Raises:
            ValueError: the image has another shape.
        """
        check_image(image, 3, (_IMAGE_SIZE, _IMAGE_SIZE))
        if isinstance(self.backbone, VisionTransformer):
            tokens, cells = _tokens(self.backbone, image)
            vector = self._head(self.backbone.heads(tokens[:, 0]))
            return Features(patch_grid(tokens[:, 1:], cells), vector, vector)
        vector = self._head(self.backbone(image))
        return Features(vector[:, :, None, None], vector, vector)

    def _head(self, logits: Tensor) -> Tensor:
        """``[B, E]``: the head takes the logits, not the features behind them."""
        vector: Tensor = self.decoder[_BRANCH](logits)
        return vector


def _tokens(backbone: VisionTransformer, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Normed tokens ``[B, 1 + h w, D]``, class token first, and ``h, w``; torchvision's forward keeps one."""
    patches = backbone.conv_proj(image)  # [B, D, h, w]
    first = backbone.class_token.expand(len(image), -1, -1)
    tokens: Tensor = backbone.encoder(torch.cat([first, patches.flatten(2).transpose(1, 2)], dim=1))
    return tokens, (patches.shape[2], patches.shape[3])


def build(*, backbone: str, head_dim: int = 256, num_classes: int = 1000, **sizes: int | tuple[int, ...]) -> WildSat:
    """The network of one variant, its weights to be loaded.

    Args:
        backbone: ``vitb16``, ``resnet50`` or ``swint``.
        head_dim: width of the image vector.
        num_classes: number of logits.
        sizes: arguments of torchvision's constructor, in place of the published network's.

    Raises:
        ValueError: no such backbone.
    """
    if backbone not in _BACKBONES:
        raise ValueError(f"there is no backbone {backbone!r}; there are {', '.join(_BACKBONES)}")
    classifier = _BACKBONES[backbone](num_classes=num_classes, **sizes)
    return WildSat(classifier, classes=num_classes, head_dim=head_dim)


def image_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's entries, and one head's as ``decoder.backbone3``.

    Any run of ``module.``, ``satellite_model.`` and ``model.`` is taken off the names. The head is the third,
    which is the image's; of a file without it the last (golden/wildsat/spec.md, "Network").
    """
    plain = {_LEADING.sub("", key): value for key, value in state.items()}
    branches = {key: int(match[1]) for key in plain if (match := _HEAD.match(key))}
    chosen = 3 if 3 in branches.values() else max(branches.values(), default=3)
    head = {_HEAD.sub(f"decoder.{_BRANCH}.", key): plain[key] for key, branch in branches.items() if branch == chosen}
    return {key: value for key, value in plain.items() if key not in branches} | head
