"""The Vision Transformer (Dosovitskiy et al. 2021), from pixels to logits: read it from top to bottom.

Modules and parameters have timm's names, so that weights load into timm's VisionTransformer as they are, wherever timm
has the part. `Trace` observes a forward pass without changing it.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from numbers import Integral
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, noop_context_fn

from vitreous.arguments import check_arguments
from vitreous.errors import InputError, unknown
from vitreous.imaging.geometry import grid_for
from vitreous.model.config import GlobalPool, ViTConfig
from vitreous.model.conv_stem import ConvStem
from vitreous.model.initialization import draw_pos_embed, draw_prefix_tokens, draw_weights
from vitreous.model.kernels import dot_product_attention
from vitreous.model.layers import DropPath, Mlp, SwiGLU, build_layer_scale, build_norm
from vitreous.model.linear import Linear, linear
from vitreous.model.pooling import build_attn_pool, pool_tokens
from vitreous.model.positions import apply_rope, resample_on_load, resample_pos_embed, rope_angles, sincos_pos_embed
from vitreous.model.trace import AttentionRecord, TokenLayout, Trace

OutputFormat = Literal["NCHW", "NLC"]
Intermediate = Tensor | tuple[Tensor, Tensor]
"""The patch tokens of a block, or these and its prefix tokens."""
CheckpointContexts = Callable[[], tuple[AbstractContextManager, AbstractContextManager]]
"""Makes the contexts of a block's forward pass and of its recomputation, as `torch.utils.checkpoint` takes them."""
NO_WEIGHT_DECAY = ("cls_token", "reg_token", "pos_embed", "attn_pool.latent")
"""Parameters with several axes that weight decay should leave alone: tokens and positions."""


class PatchEmbed(nn.Module):
    """Cut an image into patches and map each to a token (Dosovitskiy et al. 2021, equation 1)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        # A convolution whose windows don't overlap is one matrix product, which is how it is computed.
        self.proj = nn.Conv2d(config.in_chans, config.embed_dim, config.patch_size, config.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) to tokens (batch, patches, width)."""
        return linear(patchify(images, self.patch_size), self.proj.weight.flatten(1), self.proj.bias)


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Images (batch, channels, height, width) to (batch, patches, channels × patch × patch), row by row."""
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    grid = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * patch_size**2)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.qkv = Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = Linear(config.embed_dim, config.embed_dim)
        self.q_norm = nn.LayerNorm(self.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(self.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(self, tokens: Tensor, rope: Tensor | None = None, trace: Trace | None = None) -> Tensor:
        """Tokens (batch, tokens, width) to tokens; `rope` holds the angles of rotary positions."""
        qkv = self.qkv(tokens).unflatten(-1, (3, self.num_heads, self.head_dim))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        query, key = self._normalize_and_rotate(query, key, rope)
        attention = dot_product_attention(query, key, value)
        if trace is not None:
            record = AttentionRecord(
                query, key, value, attention.output, self.head_dim**-0.5, attention.weights, attention.log_sums,
                self.proj.weight, tokens, lambda: self.query_and_key(tokens, rope),
            )  # fmt: skip
            trace.on_attention(record)
        return self.proj(attention.output.transpose(1, 2).flatten(2))

    def query_and_key(self, tokens: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the queries and keys (batch, heads, tokens, head width) of the layer's input alone."""
        both = self.qkv.first(tokens, 2 * self.num_heads * self.head_dim)
        query, key = both.unflatten(-1, (2, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        return self._normalize_and_rotate(query, key, rope)

    def _normalize_and_rotate(self, query: Tensor, key: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor]:
        dtype = query.dtype
        query, key = self.q_norm(query), self.k_norm(key)
        if rope is not None:
            query, key = apply_rope(query, rope), apply_rope(key, rope)
        return query.to(dtype), key.to(dtype)


class Block(nn.Module):
    """One pre-norm block (Dosovitskiy et al. 2021, equations 2 and 3): attention, then an MLP, each on a branch."""

    def __init__(self, config: ViTConfig, index: int) -> None:
        super().__init__()
        self.norm1 = build_norm(config)
        self.attn = Attention(config)
        self.ls1 = build_layer_scale(config)
        self.norm2 = build_norm(config)
        self.mlp = SwiGLU(config) if config.mlp_layer == "swiglu" else Mlp(config)
        self.ls2 = build_layer_scale(config)
        self.drop_path = DropPath(config.drop_path_rate * index / max(1, config.depth - 1))
        self.checkpoint_contexts: CheckpointContexts | None = None

    def forward(self, tokens: Tensor, rope: Tensor | None = None, trace: Trace | None = None) -> Tensor:
        """Tokens (batch, tokens, width) to tokens."""
        # A trace keeps the tensors of this very pass, so there is nothing to save.
        if self.checkpoint_contexts is None or trace is not None or not torch.is_grad_enabled():
            return self._forward(tokens, rope, trace)
        return checkpoint(self._forward, tokens, rope, use_reentrant=False, context_fn=self.checkpoint_contexts)

    def _forward(self, tokens: Tensor, rope: Tensor | None, trace: Trace | None = None) -> Tensor:
        tokens = tokens + self.drop_path(self.ls1(self.attn(self.norm1(tokens), rope, trace)))
        return tokens + self.drop_path(self.ls2(self.mlp(self.norm2(tokens))))


class ViT(nn.Module):
    """A Vision Transformer with the options of `ViTConfig`.

    >>> model = ViT(ViTConfig(image_size=(32, 32), patch_size=4, num_classes=10))
    >>> model(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        if not isinstance(config, ViTConfig):
            raise InputError(f"{config!r} is not a ViTConfig: give one, or call create_model with the name of a size")
        self.config, dim = config, config.embed_dim
        patches = config.grid_size[0] * config.grid_size[1]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if config.has_class_token else None
        self.reg_token = nn.Parameter(torch.zeros(1, config.reg_tokens, dim)) if config.reg_tokens else None
        self.pos_embed = nn.Parameter(torch.zeros(1, patches, dim)) if config.pos_embed == "learned" else None
        self.patch_embed = ConvStem(config) if config.stem == "conv" else PatchEmbed(config)
        self.norm_pre = build_norm(config) if config.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.norm = nn.Identity() if config.fc_norm else build_norm(config)
        self.fc_norm = build_norm(config) if config.fc_norm else nn.Identity()
        self.attn_pool = build_attn_pool(config)
        self.head = Linear(config.pooled_dim, config.num_classes) if config.num_classes else nn.Identity()
        self.register_load_state_dict_pre_hook(resample_on_load)
        # On the meta device there is nothing to set, and torch would import seconds of compiler for its random numbers.
        if not next(self.parameters()).is_meta:
            self.init_weights()

    @property
    def embed_dim(self) -> int:
        """The width of a token."""
        return self.config.embed_dim

    num_features = embed_dim

    @property
    def num_classes(self) -> int:
        """The number of outputs of the head; 0 without one."""
        return self.config.num_classes

    @property
    def num_prefix_tokens(self) -> int:
        """The number of tokens before the patches: class token and registers."""
        return self.config.num_prefix_tokens

    def forward(self, images: Tensor, trace: Trace | None = None) -> Tensor:
        """Classify normalized images (batch, channels, height, width): logits (batch, classes).

        A model without classes gives its pooled vector (batch, pooled width). With a `trace`, each attention layer
        leaves its record there; the logits are the same to the bit.

        Raises:
            InputError: the number of channels isn't the model's, or the patch size doesn't divide the sides.
        """
        return self.forward_head(self.forward_features(images, trace), trace=trace)

    def forward_features(self, images: Tensor, trace: Trace | None = None) -> Tensor:
        """Compute the last block's tokens (batch, tokens, width), normalized: class token, registers, patches."""
        tokens, rope = self.embed(images, trace)
        for block in self.blocks:
            tokens = block(tokens, rope, trace)
            if trace is not None:
                trace.on_tokens(tokens)
        return self.norm(tokens)

    def forward_head(self, tokens: Tensor, pre_logits: bool = False, trace: Trace | None = None) -> Tensor:
        """Pool the tokens of `forward_features` and classify them: logits (batch, classes).

        With `pre_logits`, the result is the vector that the head would read (batch, pooled width).
        """
        if self.attn_pool is not None:
            pooled, weights = self.attn_pool(tokens, self.num_prefix_tokens)
        else:
            pooled, weights = pool_tokens(tokens, self.config.global_pool, self.num_prefix_tokens)
        if trace is not None:
            trace.readout = weights
            trace.has_attention_pooling = self.attn_pool is not None
        pooled = self.fc_norm(pooled)
        return pooled if pre_logits else self.head(pooled)

    def logit_lens(self, tokens: Tensor) -> Tensor:
        """Read logits (batch, classes) from any block's tokens (batch, tokens, width), as if it were the last."""
        return self.forward_head(self.norm(tokens))

    @overload
    def forward_intermediates(
        self, images: Tensor, indices: int | Sequence[int] | None = None, return_prefix_tokens: bool = False,
        norm: bool = False, output_fmt: OutputFormat = "NCHW", intermediates_only: Literal[False] = False,
    ) -> tuple[Tensor, list[Intermediate]]: ...  # fmt: skip
    @overload
    def forward_intermediates(
        self, images: Tensor, indices: int | Sequence[int] | None = None, return_prefix_tokens: bool = False,
        norm: bool = False, output_fmt: OutputFormat = "NCHW", *, intermediates_only: Literal[True],
    ) -> list[Intermediate]: ...  # fmt: skip
    def forward_intermediates(
        self,
        images: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        output_fmt: OutputFormat = "NCHW",
        intermediates_only: bool = False,
    ) -> tuple[Tensor, list[Intermediate]] | list[Intermediate]:
        """Compute the tokens of `forward_features`, and the patch tokens of several blocks, as timm does.

        Args:
            images: normalized, (batch, channels, height, width).
            indices: the last so many blocks, or the blocks of these numbers, negative ones from the end; all by
                default. The result is in the order of the blocks.
            return_prefix_tokens: give pairs of patch tokens and the tokens before them (batch, prefix, width).
            norm: apply the final normalization to each.
            output_fmt: "NCHW" for (batch, width, grid height, grid width), "NLC" for (batch, patches, width).
            intermediates_only: leave out the tokens of `forward_features`, and the blocks after the last wanted one.

        Raises:
            InputError: there is no such block or output format.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise unknown("output_fmt", output_fmt, ("NCHW", "NLC"))
        wanted = _find_blocks(indices, len(self.blocks))
        (tokens, rope), found = self.embed(images), []
        for index, block in enumerate(self.blocks[: wanted[-1] + 1] if intermediates_only else self.blocks):
            tokens = block(tokens, rope)
            if index in wanted:
                found.append(self.norm(tokens) if norm else tokens)
        patches = [layer[:, self.num_prefix_tokens :] for layer in found]
        if output_fmt == "NCHW":
            if self.training and self.config.patch_drop_rate:
                raise InputError("patch dropout leaves no grid of patches: call model.eval(), or take the format NLC")
            patches = [layer.transpose(1, 2).unflatten(2, self._grid_size(images)) for layer in patches]
        prefix = [layer[:, : self.num_prefix_tokens] for layer in found]
        pairs: list[Intermediate] = list(zip(patches, prefix, strict=True)) if return_prefix_tokens else [*patches]
        return pairs if intermediates_only else (self.norm(tokens), pairs)

    def get_intermediate_layers(
        self,
        images: Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_prefix_tokens: bool = False,
        norm: bool = True,
    ) -> tuple[Intermediate, ...]:
        """Compute the patch tokens of several blocks, as DINOv2 does: see `forward_intermediates`.

        `n` is its `indices`, and `reshape` its "NCHW". Here `norm` is True by default, as in DINOv2.
        """
        fmt = "NCHW" if reshape else "NLC"
        return tuple(self.forward_intermediates(images, n, return_prefix_tokens, norm, fmt, intermediates_only=True))

    def embed(self, images: Tensor, trace: Trace | None = None) -> tuple[Tensor, Tensor | None]:
        """Compute the first block's tokens (batch, prefix + patches, width), and the angles of rotary positions."""
        config, grid_size = self.config, self._grid_size(images)
        tokens, rope = self.patch_embed(images), None
        if self.pos_embed is not None:
            antialias = config.pos_embed_antialias
            table = resample_pos_embed(self.pos_embed, config.grid_size, grid_size, antialias=antialias)
            tokens = tokens + table.to(tokens.dtype)
        elif config.pos_embed == "sincos":
            table = sincos_pos_embed(grid_size, config.embed_dim, config.grid_size, images.device)
            tokens = tokens + table.to(tokens.dtype)
        else:
            rope = rope_angles(grid_size, config.head_dim, config.num_prefix_tokens, images.device)
        if self.training and config.patch_drop_rate:
            tokens, rope = self._drop_patches(tokens, rope)
        if prefix := self._prefix_tokens():
            tokens = torch.cat([torch.cat(prefix, 1).to(tokens.dtype).expand(len(tokens), -1, -1), tokens], 1)
        tokens = self.norm_pre(tokens)
        if trace is not None:
            trace.layout = TokenLayout(config.num_prefix_tokens, *grid_size)
            trace.on_tokens(tokens)
        return tokens, rope

    def _prefix_tokens(self) -> list[Tensor]:
        """The learned tokens before the patches: class token, then registers, (1, count, width) each."""
        return [tokens for tokens in (self.cls_token, self.reg_token) if tokens is not None]

    def _grid_size(self, images: Tensor) -> tuple[int, int]:
        if images.ndim != 4 or images.shape[1] != self.config.in_chans or not images.is_floating_point():
            given = f"{tuple(images.shape)} of {images.dtype}"
            raise InputError(f"expected float images (batch, {self.config.in_chans}, height, width), got {given}")
        return grid_for((images.shape[2], images.shape[3]), self.config.patch_size)

    def _drop_patches(self, patches: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Keep a random fraction of the patches, other ones for each image (Liu et al. 2022)."""
        (batch, count, width), prefix = patches.shape, self.num_prefix_tokens
        keep = max(1, round(count * (1 - self.config.patch_drop_rate)))
        kept = torch.rand(batch, count, device=patches.device).topk(keep, 1).indices
        if rope is not None:
            rope = torch.cat([rope[:prefix].expand(batch, -1, -1), rope[prefix:][kept]], 1).unsqueeze(1)
        return patches.gather(1, kept.unsqueeze(-1).expand(-1, -1, width)), rope

    def no_weight_decay(self) -> set[str]:
        """Name the parameters with several axes that weight decay should leave alone: tokens and positions."""
        return set(NO_WEIGHT_DECAY)

    @check_arguments
    def set_input_size(self, image_size: int | tuple[int, int]) -> None:
        """Make the model one for images of another size in pixels; learned positions are resampled.

        Raises:
            InputError: the patch size doesn't divide it.
        """
        config = replace(self.config, image_size=image_size)
        if self.pos_embed is not None:
            old = self.pos_embed
            table = resample_pos_embed(
                old.detach(), self.config.grid_size, config.grid_size, antialias=config.pos_embed_antialias
            )
            self.pos_embed = nn.Parameter(table.contiguous().clone(), old.requires_grad)
        self.config = config

    def set_grad_checkpointing(self, enable: bool = True, context_fn: CheckpointContexts = noop_context_fn) -> None:
        """Recompute the blocks for the gradients instead of keeping their tensors, to the bit: less memory, more time.

        Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost". A pass with a trace keeps everything.
        """
        for block in self.blocks:
            assert isinstance(block, Block)
            block.checkpoint_contexts = context_fn if enable else None

    def get_classifier(self) -> nn.Module:
        """Return the head: a linear map of the pooled vector, or `nn.Identity` without classes."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: GlobalPool | None = None) -> None:
        """Replace the head by a new one, of zeros, for so many classes (0: none), and the pooling if another is named.

        Raises:
            InputError: the model has no class token for such a pooling, or would lose the one it was trained with.
        """
        pool = self.config.global_pool if global_pool is None else global_pool
        config = replace(self.config, num_classes=num_classes, global_pool=pool)
        if config.has_class_token != self.config.has_class_token:
            has = "has a" if self.config.has_class_token else "has no"
            raise InputError(f"the model {has} class token, which global_pool '{pool}' doesn't fit: choose another")
        weight = next(self.parameters())
        if pool != self.config.global_pool:
            self.attn_pool = build_attn_pool(config)
            if self.attn_pool is not None:
                draw_weights(self.attn_pool)
        self.config = config
        self.head = Linear(config.pooled_dim, num_classes) if num_classes else nn.Identity()
        if isinstance(self.head, nn.Linear):
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        self.to(weight.device, weight.dtype)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw the weights: linear maps from a truncated normal distribution of variance 1 / inputs.

        Biases, the head and the last map of each branch are zero (see `draw_weights`). Learned positions start from
        sine-cosine ones, class token and registers from small noise.
        """
        draw_weights(self)
        if self.pos_embed is not None:
            draw_pos_embed(self.pos_embed, self.config.grid_size)
        if isinstance(self.head, nn.Linear):
            nn.init.zeros_(self.head.weight)
        if prefix := self._prefix_tokens():
            draw_prefix_tokens(prefix)


def _find_blocks(indices: int | Sequence[int] | None, depth: int) -> list[int]:
    """Resolve what `forward_intermediates` takes as `indices` to numbers from 0, in the order of the blocks."""
    if isinstance(indices, Integral):
        if isinstance(indices, bool) or not 0 < int(indices) <= depth:
            raise InputError(f"can't take the last {indices} blocks: the model has {depth}")
        return list(range(depth - int(indices), depth))
    numbers = range(depth) if indices is None else list(indices) if isinstance(indices, Iterable) else []
    if not numbers or any(not isinstance(one, Integral) or one not in range(-depth, depth) for one in numbers):
        raise InputError(f"there are no blocks {indices}: the model has {depth}, numbered from 0")
    return sorted({int(one) % depth for one in numbers})
