"""The Vision Transformer, from pixels to logits, read top to bottom."""

import torch
from torch import Tensor, nn

from vitreous.errors import InputError
from vitreous.model.blocks import Block
from vitreous.model.config import ViTConfig, grid_for
from vitreous.model.initialization import initialize
from vitreous.model.linear import Linear
from vitreous.model.norms import build_norm
from vitreous.model.patches import ConvStem, PatchEmbedding
from vitreous.model.pooling import build_pooling
from vitreous.model.positions import build_positions, rotation_table
from vitreous.model.trace import TokenLayout, Trace


class ViT(nn.Module):
    """A Vision Transformer (Dosovitskiy et al. 2021), pre-norm, with the options of `ViTConfig`."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = ConvStem(config) if config.stem == "conv" else PatchEmbedding(config)
        self.positions = build_positions(config)
        self.prefix = nn.Parameter(torch.zeros(config.prefix, config.width)) if config.prefix else None
        self.embedding_norm = build_norm(config) if config.embedding_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.norm = build_norm(config)
        self.pooling = build_pooling(config)
        self.head = Linear(config.pooled_width, config.classes) if config.classes else nn.Identity()
        # On the meta device there is nothing to set, and torch would import seconds of compiler for its random numbers.
        if not next(self.parameters()).is_meta:
            initialize(self)

    def forward(self, images: Tensor, trace: Trace | None = None) -> Tensor:
        """Normalized images (batch, channels, height, width) to logits (batch, classes).

        A model without classes answers with its pooled vector (batch, pooled width). With a `trace`, each attention
        layer leaves its record there; the logits are the same to the bit.

        Raises:
            InputError: the channels are others than the model's, or the patch doesn't divide the sides.
        """
        tokens, rotation = self.embed(images, trace)
        for block in self.blocks:
            tokens = block(tokens, rotation, trace)
            if trace is not None:
                trace.passed(tokens)
        return self.read(tokens, trace)

    def read(self, tokens: Tensor, trace: Trace | None = None) -> Tensor:
        """The logits (batch, classes) that the head reads from a block's tokens (batch, tokens, width)."""
        if self.config.norm_after_pooling:
            pooled, readout = self.pooling(tokens, self.config.prefix)
            pooled = self.norm(pooled)
        else:
            pooled, readout = self.pooling(self.norm(tokens), self.config.prefix)
        if trace is not None:
            trace.readout = readout
        return self.head(pooled)

    def embed(self, images: Tensor, trace: Trace | None = None) -> tuple[Tensor, Tensor | None]:
        """Images to the first block's tokens (batch, prefix + patches, width) and the rotary angles, if any."""
        grid_hw = self._grid(images)
        tokens = self.stem(images)
        rotation = None
        if self.positions is not None:
            tokens = self.positions(tokens, grid_hw)
        if self.config.positions == "rotary":
            rotation = rotation_table(grid_hw, self.config.head_width, self.config.prefix, images.device)
        if self.training and self.config.patch_dropout:
            tokens, rotation = self._drop_patches(tokens, rotation)
        if self.prefix is not None:
            tokens = torch.cat([self.prefix.to(tokens.dtype).expand(len(tokens), -1, -1), tokens], 1)
        tokens = self.embedding_norm(tokens)
        if trace is not None:
            trace.layout = TokenLayout(self.config.prefix, *grid_hw)
            trace.passed(tokens)
        return tokens, rotation

    def _grid(self, images: Tensor) -> tuple[int, int]:
        if images.ndim != 4 or images.shape[1] != self.config.channels:
            shape = tuple(images.shape)
            raise InputError(f"expected images (batch, {self.config.channels}, height, width), got {shape}")
        return grid_for((images.shape[2], images.shape[3]), self.config.patch_size)

    def _drop_patches(self, patches: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Keep a random share of the patches, other ones for each image (Liu et al. 2022)."""
        batch, count, width = patches.shape
        keep = max(1, round(count * (1 - self.config.patch_dropout)))
        kept = torch.rand(batch, count, device=patches.device).topk(keep, 1).indices
        if rotation is not None:
            prefix = rotation[: self.config.prefix].expand(batch, -1, -1)
            rotation = torch.cat([prefix, rotation[self.config.prefix :][kept]], 1).unsqueeze(1)
        return patches.gather(1, kept.unsqueeze(-1).expand(-1, -1, width)), rotation
