"""CLIP image towers (forward stage): open_clip's vision transformer and modified ResNet, no text tower.

open_clip's classes are the published networks of RemoteCLIP (github.com/ChenDelong1999/RemoteCLIP), so they
are used as they are; this file only chooses where features are read. Importing open_clip takes seconds and
pulls in timm and torchvision; no other network imports open_clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import open_clip
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from rs_embed_core.networks.features import Features

# The entries of a vision configuration that are understood here, None where there is no default. Any other
# (a different pooling, LayerScale, a timm backbone) makes another network under a familiar name.
_VISION_DEFAULTS: Final[dict[str, float | None]] = {
    "image_size": 224,
    "layers": None,
    "width": None,
    "patch_size": None,
    "head_width": 64,  # open_clip/model.py CLIPVisionCfg
    "mlp_ratio": 4.0,  # open_clip/model.py CLIPVisionCfg
}


class _TransformerTower(VisionTransformer):  # type: ignore[misc]  # open_clip ships no types
    """Vision transformer whose grid is the last block's output before ``ln_post``, less the class token."""

    def forward(self, image: Tensor) -> Features:
        """Features of ``image [B, 3, H, W]``: grid ``[B, W, h, w]``, image embedding ``[B, E]``."""
        _check(image, self.image_size)
        return _features(self.forward_intermediates(image, indices=1))


class _ResNetTower(ModifiedResNet):  # type: ignore[misc]  # open_clip ships no types
    """CLIP's ResNet whose grid is the output of ``layer4``."""

    def forward(self, image: Tensor) -> Features:
        """Features of ``image [B, 3, H, W]``: grid ``[B, 32 * W, h, w]``, image embedding ``[B, E]``."""
        _check(image, (self.image_size, self.image_size))
        return _features(self.forward_intermediates(image, indices=1))


def _check(image: Tensor, size: tuple[int, int]) -> None:
    """Refuse an image that the position embedding does not fit."""
    if image.ndim != 4 or tuple(image.shape[1:]) != (3, *size):
        raise ValueError(f"image must be [B, 3, {size[0]}, {size[1]}], got {list(image.shape)}")


def _features(read: Mapping[str, Any]) -> Features:  # Any: open_clip mixes tensors and lists of them
    """The last intermediate and the image embedding, not L2-normalised.

    CLIP pools by its own head, so the embedding answers to either pooling.
    """
    embedding: Tensor = read["image_features"]
    grid: Tensor = read["image_intermediates"][-1]
    return Features(grid=grid, pooled_mean=embedding, pooled_max=embedding)


def build(*, model_name: str, config: Mapping[str, Any] | None = None) -> nn.Module:  # Any: JSON
    """The image tower of a CLIP model, with untrained weights and exact GELU.

    Args:
        model_name: A configuration that open_clip ships: ``ViT-B-32``, ``ViT-L-14`` or ``RN50``.
        config: A configuration of the same form, to use instead of the shipped one; its text part is ignored.

    Returns:
        A module whose state-dict entries are those below ``visual.`` of a CLIP checkpoint. Its forward takes
        ``image [B, 3, 224, 224]`` and returns Features: the patch grid, and the projected image embedding
        ``[B, E]`` for both poolings.

    Raises:
        ValueError: If open_clip ships no such configuration, or it asks for more than a plain tower.
    """
    if config is None:
        config = _shipped_config(model_name)
    vision = {**_VISION_DEFAULTS, **config["vision_cfg"]}
    unknown = sorted(vision.keys() - _VISION_DEFAULTS.keys())
    if unknown or config.get("quick_gelu"):
        # Loads without an error and answers differently, so it must not be built by accident.
        raise ValueError(f"{model_name} is not a plain CLIP image tower: it sets {', '.join(unknown) or 'quick_gelu'}")
    if isinstance(vision["layers"], int):
        return _transformer(vision, config["embed_dim"])
    return _resnet(vision, config["embed_dim"])


def _shipped_config(model_name: str) -> Mapping[str, Any]:  # Any: JSON
    """open_clip's own configuration of that name, and only that: ``hf-hub:`` would go to the network."""
    if model_name not in open_clip.list_models():
        raise ValueError(f"open_clip ships no configuration {model_name!r}; it does ship ViT-B-32, ViT-L-14 and RN50")
    config: Mapping[str, Any] = open_clip.get_model_config(model_name)  # Any: JSON
    return config


def _transformer(vision: Mapping[str, Any], embed_dim: int) -> nn.Module:  # Any: JSON
    return _TransformerTower(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        width=vision["width"],
        layers=vision["layers"],
        heads=vision["width"] // vision["head_width"],
        mlp_ratio=vision["mlp_ratio"],
        output_dim=embed_dim,
    )


def _resnet(vision: Mapping[str, Any], embed_dim: int) -> nn.Module:  # Any: JSON
    return _ResNetTower(
        layers=vision["layers"],
        output_dim=embed_dim,
        heads=vision["width"] * 32 // vision["head_width"],  # attention pooling works on layer4's 32 * width
        image_size=vision["image_size"],
        width=vision["width"],
    )
