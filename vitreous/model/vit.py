"""The Vision Transformer (Dosovitskiy et al. 2021), from pixels to logits: read it from top to bottom.

Modules and parameters have timm's names, so that weights load into timm's VisionTransformer as they are, wherever timm
has the part. `Trace` observes a forward pass without changing it.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitreous.errors import InputError
from vitreous.imaging.geometry import grid_for
from vitreous.model.config import GlobalPool, ViTConfig, to_pair
from vitreous.model.conv_stem import ConvBlock, ConvStem
from vitreous.model.kernels import dot_product_attention
from vitreous.model.layers import DropPath, build_layer_scale, build_norm
from vitreous.model.linear import Linear, linear
from vitreous.model.pooling import AttentionPool, SequencePool, pool_tokens
from vitreous.model.positions import apply_rope, resample_on_load, resample_pos_embed, rope_angles, sincos_pos_embed
from vitreous.model.trace import AttentionRecord, TokenLayout, Trace

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


class Mlp(nn.Module):
    """Linear, GELU in the form that the configuration names, linear, on each token by itself."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.activation = config.mlp_layer
        hidden = int(config.mlp_ratio * config.embed_dim)
        self.fc1 = Linear(config.embed_dim, hidden)
        self.fc2 = Linear(hidden, config.embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, tokens, width) to tokens."""
        hidden = self.fc1(tokens)
        if self.activation == "quick-gelu":
            return self.fc2(hidden * torch.sigmoid(1.702 * hidden))
        return self.fc2(functional.gelu(hidden, approximate="tanh" if self.activation == "gelu-tanh" else "none"))


class SwiGLU(nn.Module):
    """A gated MLP: silu(gate) × value (Shazeer 2020, equation 6), of the same cost as the plain one.

    The rows of `fc1` are the gate's, then the value's, as in timm's SwiGLUPacked.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.embed_dim, 2 * config.gated_dim)
        self.fc2 = Linear(config.gated_dim, config.embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, tokens, width) to tokens."""
        gate, value = self.fc1(tokens).chunk(2, -1)
        return self.fc2(functional.silu(gate) * value)


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

    def forward(self, tokens: Tensor, rope: Tensor | None = None, trace: Trace | None = None) -> Tensor:
        """Tokens (batch, tokens, width) to tokens."""
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
        self.attn_pool = _build_attn_pool(config)
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
            pooled, weights = self.attn_pool(tokens, self.config.num_prefix_tokens)
        else:
            pooled, weights = pool_tokens(tokens, self.config.global_pool, self.config.num_prefix_tokens)
        if trace is not None:
            trace.readout = weights
            trace.has_attention_pooling = self.attn_pool is not None
        pooled = self.fc_norm(pooled)
        return pooled if pre_logits else self.head(pooled)

    def logit_lens(self, tokens: Tensor) -> Tensor:
        """Read logits (batch, classes) from any block's tokens (batch, tokens, width), as if it were the last."""
        return self.forward_head(self.norm(tokens))

    def get_intermediate_layers(
        self,
        images: Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_prefix_tokens: bool = False,
        norm: bool = True,
    ) -> tuple[Tensor | tuple[Tensor, Tensor], ...]:
        """Compute the patch tokens of several blocks, as DINOv2 and timm do.

        Args:
            images: normalized, (batch, channels, height, width).
            n: the last `n` blocks, or the blocks of these numbers; negative ones count from the last.
            reshape: give (batch, width, grid height, grid width) instead of (batch, patches, width).
            return_prefix_tokens: give pairs of patch tokens and the tokens before them (batch, prefix, width).
            norm: apply the final normalization to each; True by default as in DINOv2, where timm's default is False.

        Raises:
            InputError: there is no such block.
        """
        depth, prefix = len(self.blocks), self.config.num_prefix_tokens
        wanted = range(depth - n, depth) if isinstance(n, int) else [index + depth * (index < 0) for index in n]
        if any(not 0 <= index < depth for index in wanted):
            if isinstance(n, int):
                raise InputError(f"can't take the last {n} blocks: the model has {depth}")
            raise InputError(f"there are no blocks {n}: the model has {depth}, numbered from 0")
        (tokens, rope), found = self.embed(images), []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, rope)
            if index in wanted:
                found.append(self.norm(tokens) if norm else tokens)
        patches = [layer[:, prefix:] for layer in found]
        if reshape:
            patches = [layer.transpose(1, 2).unflatten(2, self._grid_size(images)) for layer in patches]
        if not return_prefix_tokens:
            return tuple(patches)
        return tuple(zip(patches, (layer[:, :prefix] for layer in found), strict=True))

    def embed(self, images: Tensor, trace: Trace | None = None) -> tuple[Tensor, Tensor | None]:
        """Compute the first block's tokens (batch, prefix + patches, width), and the angles of rotary positions."""
        config, grid_size = self.config, self._grid_size(images)
        tokens, rope = self.patch_embed(images), None
        if self.pos_embed is not None:
            resampled = resample_pos_embed(
                self.pos_embed, config.grid_size, grid_size, antialias=config.pos_embed_antialias
            )
            tokens = tokens + resampled.to(tokens.dtype)
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
        if images.ndim != 4 or images.shape[1] != self.config.in_chans:
            shape = tuple(images.shape)
            raise InputError(f"expected images (batch, {self.config.in_chans}, height, width), got {shape}")
        return grid_for((images.shape[2], images.shape[3]), self.config.patch_size)

    def _drop_patches(self, patches: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Keep a random fraction of the patches, other ones for each image (Liu et al. 2022)."""
        (batch, count, width), prefix = patches.shape, self.config.num_prefix_tokens
        keep = max(1, round(count * (1 - self.config.patch_drop_rate)))
        kept = torch.rand(batch, count, device=patches.device).topk(keep, 1).indices
        if rope is not None:
            rope = torch.cat([rope[:prefix].expand(batch, -1, -1), rope[prefix:][kept]], 1).unsqueeze(1)
        return patches.gather(1, kept.unsqueeze(-1).expand(-1, -1, width)), rope

    def no_weight_decay(self) -> set[str]:
        """Name the parameters with several axes that weight decay should leave alone: tokens and positions."""
        return set(NO_WEIGHT_DECAY)

    def set_input_size(self, image_size: int | tuple[int, int]) -> None:
        """Make the model one for images of another size in pixels; learned positions are resampled.

        Raises:
            InputError: the patch size doesn't divide it.
        """
        config = replace(self.config, image_size=to_pair(image_size))
        if self.pos_embed is not None:
            old = self.pos_embed
            table = resample_pos_embed(
                old.detach(), self.config.grid_size, config.grid_size, antialias=config.pos_embed_antialias
            )
            self.pos_embed = nn.Parameter(table.contiguous().clone(), old.requires_grad)
        self.config = config

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
            self.attn_pool = _build_attn_pool(config)
            if self.attn_pool is not None:
                _draw_weights(self.attn_pool)
        self.config = config
        self.head = Linear(config.pooled_dim, num_classes) if num_classes else nn.Identity()
        if isinstance(self.head, nn.Linear):
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        self.to(weight.device, weight.dtype)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw the weights: linear maps from a truncated normal distribution of variance 1 / inputs.

        Biases, the head and the last map of each branch are zero, which leaves each block the identity at first (Zhang
        et al. 2019, "Fixup"), so that depth costs no stability. Learned positions start from sine-cosine ones, class
        token and registers from small noise.
        """
        _draw_weights(self)
        if self.pos_embed is not None:
            grid_size = self.config.grid_size
            self.pos_embed.copy_(sincos_pos_embed(grid_size, self.embed_dim, grid_size))
        if isinstance(self.head, nn.Linear):
            nn.init.zeros_(self.head.weight)
        if prefix := self._prefix_tokens():
            noise = nn.init.normal_(torch.cat(prefix, 1), std=0.02)
            for tokens, drawn in zip(prefix, noise.split([one.shape[1] for one in prefix], 1), strict=True):
                tokens.copy_(drawn)


@torch.no_grad()
def _draw_weights(part: nn.Module) -> None:
    for module in part.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in part.modules():
        if isinstance(module, Attention):
            nn.init.zeros_(module.proj.weight)
        elif isinstance(module, Mlp | SwiGLU):
            nn.init.zeros_(module.fc2.weight)
        elif isinstance(module, ConvBlock):
            module.reset_parameters()
        elif isinstance(module, AttentionPool):
            nn.init.normal_(module.latent, std=0.02)


def _build_attn_pool(config: ViTConfig) -> AttentionPool | SequencePool | None:
    """Build the pooling that has weights of its own, if the configuration names one."""
    if config.global_pool == "map":
        return AttentionPool(config, build_norm(config), Mlp(config))
    return SequencePool(config.embed_dim) if config.global_pool == "attention" else None
