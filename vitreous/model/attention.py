"""Multi-head self-attention (Vaswani et al. 2017, section 3.2), observed through a trace."""

from torch import Tensor, nn

from vitreous.model.config import ViTConfig
from vitreous.model.kernels import attend
from vitreous.model.linear import Linear
from vitreous.model.positions import rotate
from vitreous.model.trace import AttentionRecord, Trace


class Attention(nn.Module):
    """Every token gathers from all tokens, in `heads` ways at once."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads, self.head_width = config.heads, config.head_width
        self.qkv = Linear(config.width, 3 * config.width)
        self.projection = Linear(config.width, config.width)
        self.query_norm = nn.LayerNorm(self.head_width, config.norm_epsilon) if config.qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(self.head_width, config.norm_epsilon) if config.qk_norm else nn.Identity()

    def forward(self, tokens: Tensor, rotation: Tensor | None = None, trace: Trace | None = None) -> Tensor:
        """Tokens (batch, tokens, width) to tokens; `rotation` turns queries and keys by position."""
        qkv = self.qkv(tokens).unflatten(-1, (3, self.heads, self.head_width))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        query, key = self._placed(query, key, rotation)
        attended = attend(query, key, value)
        if trace is not None:
            record = AttentionRecord(
                query, key, value, attended.output, self.head_width**-0.5, attended.weights, attended.log_sums,
                self.projection.weight, tokens, lambda: self.query_and_key(tokens, rotation),
            )  # fmt: skip
            trace.attended(record)
        return self.projection(attended.output.transpose(1, 2).flatten(2))

    def query_and_key(self, tokens: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor]:
        """The layer's queries and keys (batch, heads, tokens, head width), for its input."""
        width = self.heads * self.head_width
        both = self.qkv.first(tokens, 2 * width)
        query, key = both.unflatten(-1, (2, self.heads, self.head_width)).permute(2, 0, 3, 1, 4)
        return self._placed(query, key, rotation)

    def _placed(self, query: Tensor, key: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries and keys normalized, if the model does, and turned by position."""
        precision = query.dtype
        query, key = self.query_norm(query), self.key_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        return query.to(precision), key.to(precision)
