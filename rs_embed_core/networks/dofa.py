"""DOFA: a vision transformer whose patch embedding is generated from the wavelengths of the channels.

Xiong et al. 2024, "Neural Plasticity-Inspired Multimodal Foundation Model for Earth Observation",
arXiv:2403.15356. State-dict names are those of the published checkpoints (code zhu-xlab/DOFA; on the Hub
``earthflow/DOFA`` and ``torchgeo/dofa``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.layers.norm import LayerNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from rs_embed_core.networks.features import Features

_WAVE_DIM = 128  # width of the weight generator (wv_planes of the published configuration)
_KERNEL_SCALE = 0.01  # factor on the generated kernel and bias (published code: scaler)
_KERNELS_KEPT = 8  # one per set of bands in use; base takes 7 MB for nine bands


class Dofa(nn.Module):
    """The encoder with its published pooling.

    Args:
        dim: width D of the tokens.
        depth: number of transformer blocks.
        heads: attention heads per block.
        patch_size: side of a patch in pixels.
        image_size: side of the image in pixels.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, patch_size: int, image_size: int) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed(dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (image_size // patch_size) ** 2, dim))
        # timm's LayerNorm has the published eps of 1e-6; torch's, as in the weight generator, has 1e-5.
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_ratio=4, qkv_bias=True, norm_layer=LayerNorm) for _ in range(depth)
        )
        self.fc_norm = LayerNorm(dim)

    def forward(self, image: Tensor, wavelengths_um: Tensor) -> Features:
        """Features of a batch of images with the same bands.

        Args:
            image: ``[B, C, H, W]`` standardised values.
            wavelengths_um: ``[B, C]`` central wavelengths in micrometres. Only images with the same bands
                share a batch, so all rows are equal and the first one is used.

        Returns:
            ``grid`` ``[B, D, h, w]``: patch tokens of the last block, without a norm. ``pooled_mean``
            ``[B, D]``: ``fc_norm`` of their mean. The published model pools in no other way, so
            ``pooled_max`` is the same.
        """
        patches = self.patch_embed(image, wavelengths_um[0])  # [B, D, h, w]
        tokens = patches.flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(image), -1, -1)
        tokens = torch.cat([first, tokens], dim=1)  # [B, 1 + h w, D]
        for block in self.blocks:
            tokens = block(tokens)
        tokens = tokens[:, 1:]
        pooled = self.fc_norm(tokens.mean(dim=1))
        return Features(tokens.transpose(1, 2).unflatten(2, patches.shape[2:]), pooled, pooled)


class _PatchEmbed(nn.Module):
    """Convolution with a kernel made for the wavelengths of the channels."""

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.weight_generator = _WeightGenerator(dim, patch_size)
        self.fclayer = _Residual()
        self._patch_size = patch_size
        self._kernels: OrderedDict[tuple[object, ...], tuple[Tensor, Tensor]] = OrderedDict()
        self.register_load_state_dict_post_hook(_forget_kernels)  # type: ignore[no-untyped-call]  # torch's gap

    def forward(self, image: Tensor, wavelengths_um: Tensor) -> Tensor:
        """``[B, D, h, w]`` embedded patches of ``[B, C, H, W]`` images; wavelengths ``[C]``."""
        weight, bias = self._kernel(image, wavelengths_um)
        # The published padding of 1 shifts every window by a pixel; the last row and column go unused.
        return F.conv2d(image, weight, bias, stride=self._patch_size, padding=1)

    def train(self, mode: bool = True) -> _PatchEmbed:
        self._kernels.clear()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _PatchEmbed:
        self._kernels.clear()  # .to() and .half() change the weights that the kernels were made from
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's gap
        return self

    def _kernel(self, image: Tensor, wavelengths_um: Tensor) -> tuple[Tensor, Tensor]:
        """Kernel ``[D, C, p, p]`` and bias ``[D]``, from the cache where gradients are not asked for."""
        if self.training or torch.is_grad_enabled():
            return self._generate(wavelengths_um, image)
        key = (tuple(wavelengths_um.tolist()), image.dtype, image.device)
        kernel = self._kernels.get(key)
        if kernel is None:
            kernel = self._kernels[key] = self._generate(wavelengths_um, image)
            if len(self._kernels) > _KERNELS_KEPT:
                self._kernels.popitem(last=False)
        return kernel

    def _generate(self, wavelengths_um: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        # Without autocast: sines of up to 2190 radians need float32, and a cached kernel serves every caller.
        with torch.autocast(image.device.type, enabled=False):
            waves = self.fclayer(_encode(wavelengths_um).to(self.fclayer.w1.weight))  # [C, 128]
            weight, bias = self.weight_generator(waves)
        weight = (weight * _KERNEL_SCALE).permute(3, 0, 1, 2).contiguous()  # [C, p, p, D] -> [D, C, p, p]
        return weight.to(image.dtype), (bias * _KERNEL_SCALE).to(image.dtype)


class _WeightGenerator(nn.Module):
    """A one-layer transformer from encoded wavelengths to a kernel and a bias."""

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self._shape = (patch_size, patch_size, dim)
        self.weight_tokens = nn.Parameter(torch.zeros(128, _WAVE_DIM))
        self.bias_token = nn.Parameter(torch.zeros(1, _WAVE_DIM))
        layer = nn.TransformerEncoderLayer(_WAVE_DIM, nhead=4, dim_feedforward=2048, dropout=0, activation="gelu")
        self.transformer_encoder = nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=False)
        self.fc_weight = nn.Linear(_WAVE_DIM, patch_size * patch_size * dim)
        self.fc_bias = nn.Linear(_WAVE_DIM, dim)

    def forward(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Kernel ``[C, p, p, D]`` and bias ``[D]`` for encoded wavelengths ``[C, 128]``."""
        tokens = self.transformer_encoder(torch.cat([self.weight_tokens, waves, self.bias_token]))
        kernel = self.fc_weight(tokens[len(self.weight_tokens) : -1] + waves)
        return kernel.unflatten(1, self._shape), self.fc_bias(tokens[-1])


class _Residual(nn.Module):
    """Two layers around a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Linear(_WAVE_DIM, _WAVE_DIM)
        self.w2 = nn.Linear(_WAVE_DIM, _WAVE_DIM)

    def forward(self, waves: Tensor) -> Tensor:
        return waves + F.relu(self.w2(F.relu(self.w1(waves))))


def build(*, dim: int, depth: int, heads: int, patch_size: int = 16, image_size: int = 224) -> Dofa:
    """The encoder of one variant, its weights to be loaded."""
    return Dofa(dim=dim, depth=depth, heads=heads, patch_size=patch_size, image_size=image_size)


def _encode(wavelengths_um: Tensor) -> Tensor:
    """``[C, 128]`` sines, then cosines, of ``[C]`` wavelengths in nanometres at 64 frequencies."""
    exponents = torch.arange(_WAVE_DIM // 2, dtype=torch.float32, device=wavelengths_um.device)
    frequencies = 10_000 ** (-exponents / len(exponents))
    angles = 1000 * wavelengths_um.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _forget_kernels(module: nn.Module, _incompatible_keys: object) -> None:
    if isinstance(module, _PatchEmbed):
        module.train(module.training)


def fill_fc_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A masked autoencoder's file has ``norm`` where the encoder wants ``fc_norm``: use it (golden/dofa/spec.md)."""
    borrowed = {
        f"fc_{key}": value for key, value in state.items() if key.startswith("norm.") and f"fc_{key}" not in state
    }
    return {**state, **borrowed}
