"""The other side of ``make bench-models``: what anybody would write down for the same work as a network of ours.

A network that is a library's is compared with the library's own class, and a kind of its own with the arrangement in
``_WHOLE``. Every other one is a patch convolution (or what ``_EMBEDDINGS`` has) and a row of timm's ``Block``: one for
each block that a forward really goes through, of equal width, heads, hidden layer, tokens and mask.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.models.swin_transformer import SwinTransformerBlock
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

from rs_embed_core.networks.agrifm import AgriFM
from rs_embed_core.networks.anysat import AnySat
from rs_embed_core.networks.olmoearth import OlmoEarth
from rs_embed_core.networks.rcf import RandomConvFeatures
from rs_embed_core.networks.satvision import SatVision

_LIBRARIES: Final = ("torchvision.", "open_clip.", "timm.models.resnet")
_BLOCK: Final = {"norm1", "attn", "norm2", "mlp"}  # the parts of a block, in timm's and most published code
_HEAD_DIM: Final = 32  # of all Swin transformers

type Run = Callable[[], object]
type Plain = tuple[Run, str]
"""The plain arrangement, and its name."""


def arrange(network: nn.Module, image: Tensor, ours: Run) -> Plain:
    """The plain arrangement of a network, for the image that ``ours`` runs it on."""
    for part, run in ((network, _forward_of_base), *((child, _forward) for child in network.children())):
        for base in type(part).__mro__:
            if base.__module__.startswith(_LIBRARIES):
                return run(part, base, image), f"{base.__module__.split('.')[0]}'s {base.__name__}"
    if type(network) in _WHOLE:
        return _WHOLE[type(network)](network, image)
    return _transformer(network, image, ours)


def _forward_of_base(network: nn.Module, base: type[nn.Module], image: Tensor) -> Run:
    return lambda: base.forward(network, image)


def _forward(child: nn.Module, _base: type[nn.Module], image: Tensor) -> Run:
    return lambda: child(image)


# ---------------------------------------------------------------------------------- a row of transformer blocks


@dataclass
class _Call:
    """A block's turn in a forward: ``tokens [B, N, D]`` go in, and its attention has so many heads and that mask."""

    block: nn.Module
    tokens: torch.Size
    hidden: int
    heads: int = 0
    mask: Tensor | None = None


class _Calls(TorchFunctionMode):
    """All turns of a forward that runs within."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.seen: list[_Call] = []
        self._hooks = [
            block.register_forward_pre_hook(
                lambda part, given, hidden=hidden: self.seen.append(_Call(part, given[0].shape, hidden))
            )
            for block, hidden in _blocks_of(network)
        ]

    def __torch_function__(
        self, func: object, _types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # noqa: ANN401 - torch's protocol
        given = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and self.seen and not self.seen[-1].heads:
            self.seen[-1].heads = args[0].shape[1]
            self.seen[-1].mask = given.get("attn_mask")
        return func(*args, **given)  # type: ignore[operator]  # a function of torch

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]  # torch's gap
        for hook in self._hooks:
            hook.remove()


def _blocks_of(network: nn.Module) -> list[tuple[nn.Module, int]]:
    """What is called once for each transformer block, and the width of the block's hidden layer."""
    found = []
    for module in network.modules():
        parts = dict(module.named_children())
        if parts.keys() >= _BLOCK:
            found.append((module, _first_width(parts["mlp"])))
        elif isinstance(module, nn.ModuleList) and "to_qkv" in dict(module[0].named_children()):
            found.append((module[0], _first_width(module[-1])))  # attention first, the feed-forward part last
    return found


def _first_width(part: nn.Module) -> int:
    return next(layer.out_features for layer in part.modules() if isinstance(layer, nn.Linear))


def _transformer(network: nn.Module, image: Tensor, ours: Run) -> Plain:
    with _Calls(network) as calls:
        ours()
    seen = calls.seen
    if not seen:
        raise ValueError(f"{type(network).__name__} has no plain arrangement: it has no blocks that are known")
    embedding, name = _EMBEDDINGS.get(type(network), _patch_convolution)(network, image, seen)
    row = _row(seen)
    counts = Counter(tuple(call.tokens) for call in seen)
    masked = " with their mask" if any(call.mask is not None for call in seen) else ""
    blocks = " and ".join(f"{count} timm blocks on {list(tokens)} tokens" for tokens, count in counts.items())
    return lambda: (embedding(), row()), f"{name}{blocks}{masked}"


def _row(calls: list[_Call]) -> Run:
    """The blocks of timm in the place of those that were called."""
    blocks = {}
    for call in calls:
        dim = call.tokens[2]
        if call.block not in blocks:
            blocks[call.block] = Block(dim, call.heads, mlp_ratio=call.hidden / dim, qkv_bias=True).eval()
    fresh = {call.tokens: torch.randn(call.tokens) for call in calls}

    def run() -> None:
        tokens = torch.empty(0)
        for call in calls:
            if tokens.shape != call.tokens:
                tokens = fresh[call.tokens]
            tokens = blocks[call.block](tokens, attn_mask=call.mask)

    return run


# ------------------------------------------------------------------------- what makes tokens of pixels: embeddings


def _patch_convolution(_network: nn.Module, image: Tensor, calls: list[_Call]) -> Plain:
    """A convolution whose stride is its size, so large that it makes as many tokens."""
    pixels = image.flatten(0, -4) if image.ndim > 4 else image  # frames are images of their own
    tokens = sum(call.tokens[0] * call.tokens[1] for call in calls if call.block is calls[0].block)
    side = max(1, round((pixels[:, 0].numel() / tokens) ** 0.5))
    convolution = nn.Conv2d(pixels.shape[1], calls[0].tokens[2], side, side).eval()
    return lambda: convolution(pixels), ""


def _pixels_first(network: OlmoEarth, image: Tensor, calls: list[_Call]) -> Plain:
    """The image brought to the kernel's size, a layer over every pixel, and one over the features of a patch."""
    frames, dim = image.flatten(0, 1), calls[0].tokens[2]
    channels, kernel = frames.shape[1], 8
    features = next(
        layer.out_features
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and "pixel_proj" in name and layer.in_features == channels
    )
    cells = (calls[0].tokens.numel() // dim // len(frames)) ** 0.5
    side = round(cells) * kernel
    pixelwise = nn.Sequential(nn.Linear(channels, features), nn.ReLU()).eval()
    patchwise = nn.Linear(kernel * kernel * features, dim).eval()

    def run() -> Tensor:
        enlarged = F.interpolate(frames, (side, side), mode="bicubic", align_corners=False, antialias=True)
        cut = enlarged.unfold(2, kernel, kernel).unfold(3, kernel, kernel).permute(0, 2, 3, 4, 5, 1)
        return patchwise(pixelwise(cut).flatten(3))  # type: ignore[no-any-return]  # a module's call has no type

    return run, "bicubic resize, a layer over pixels, one over patches, "


def _attention_over_time(network: AnySat, image: Tensor, _calls: list[_Call]) -> Plain:
    """A temporal attention encoder as first written down: torch's group norms, keys of their own, whole arrays."""
    encoder = network.projector_s2.patch_embed
    before, after = (_with_group_norms(part) for part in (encoder.inconv, (*encoder.mlp, encoder.out_norm)))
    over_time, keys, queries = encoder.in_norm, encoder.attention_heads.fc1_k, encoder.attention_heads.Q
    heads, width = queries.shape
    series = image.permute(0, 3, 4, 1, 2).flatten(0, 2)  # [P, T, C]

    def run() -> Tensor:
        vectors = before(series.flatten(0, 1)).view(*series.shape[:2], -1)  # [P, T, D]
        vectors = over_time(vectors.transpose(1, 2)).transpose(1, 2)
        scores = (keys(vectors).unflatten(-1, (heads, width)) * queries).sum(dim=-1) / width**0.5  # [P, T, heads]
        shares = scores.softmax(dim=1)
        mixed = torch.einsum("pth,pthd->phd", shares, vectors.unflatten(-1, (heads, -1)))
        return after(mixed.flatten(1))  # type: ignore[no-any-return]  # a module's call has no type

    return run, "attention over time with torch's group norms, "


def _with_group_norms(layers: Any) -> nn.Sequential:  # noqa: ANN401 - modules in any container
    """The layers, those that are group norms as torch's own."""
    return nn.Sequential(
        *(
            nn.GroupNorm(layer.num_groups, layer.num_channels) if isinstance(layer, nn.GroupNorm) else layer
            for layer in layers
        )
    ).eval()


_EMBEDDINGS: Final[Mapping[type[nn.Module], Callable[..., Plain]]] = {
    OlmoEarth: _pixels_first,
    AnySat: _attention_over_time,
}


# ------------------------------------------------------------------------------------- kinds without plain blocks


def _video_windows(network: AgriFM, image: Tensor) -> Plain:
    """The network with torchvision's blocks in the place of ours."""
    plain = copy.deepcopy(network)
    for stage in plain.backbone.layers:
        blocks = stage.get_submodule("blocks")
        for name, block in blocks.named_children():
            dim = len(block.get_parameter("norm1.weight"))
            shift = [4, 3, 3] if int(name) % 2 else [0, 0, 0]
            theirs = SwinTransformerBlock(dim, dim // _HEAD_DIM, [8, 7, 7], shift, attn_layer=ShiftedWindowAttention3d)
            blocks.set_submodule(name, theirs)
    plain.eval()
    return lambda: plain(image), "torchvision's SwinTransformerBlock with ShiftedWindowAttention3d"


def _cosine_windows(network: SatVision, image: Tensor) -> Plain:
    dim, channels, size, _ = network.patch_embed.proj.weight.shape
    depths = tuple(len(list(stage.get_submodule("blocks").children())) for stage in network.layers)
    heads = tuple(dim * 2**number // _HEAD_DIM for number in range(len(depths)))
    plain = SwinTransformerV2(
        image.shape[-1],
        size,
        channels,
        num_classes=0,
        embed_dim=dim,
        depths=depths,
        num_heads=heads,
        window_size=8,
    ).eval()
    return lambda: plain(image), "timm's SwinTransformerV2"


def _random_features(network: RandomConvFeatures, image: Tensor) -> Plain:
    def run() -> tuple[Tensor, Tensor]:
        y = F.conv2d(image, network.weights, network.biases)
        features = torch.cat([F.relu(y), F.relu(-y)], dim=1)
        return F.adaptive_avg_pool2d(features, image.shape[-1] // 8), features.mean(dim=(2, 3))

    return run, "relu, pooling and mean of a convolution, as defined"


_WHOLE: Final[Mapping[type[nn.Module], Callable[..., Plain]]] = {
    AgriFM: _video_windows,
    SatVision: _cosine_windows,
    RandomConvFeatures: _random_features,
}
