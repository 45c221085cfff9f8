"""The order of a model's parameters in the forward pass, in which sums are taken and random numbers are drawn."""

from torch import nn

from vitreous.model.vit import ViT


def forward_order(model: nn.Module) -> list[tuple[str, ...]]:
    """List the names of a model's parameters in the order of the forward pass.

    The tokens before the patches, which are one tensor there, come as one entry with the names of both; every other
    entry is one name. The parameters of a model that is not a ViT have the order in which they were registered.

    >>> from vitreous.model.config import ViTConfig
    >>> model = ViT(ViTConfig(image_size=32, depth=1, reg_tokens=4, num_classes=10))
    >>> forward_order(model)[:4]
    [('cls_token', 'reg_token'), ('patch_embed.proj.weight',), ('patch_embed.proj.bias',), ('pos_embed',)]
    """
    names = [name for name, _ in model.named_parameters()]
    if not isinstance(model, ViT):
        return [(name,) for name in names]
    prefix = tuple(name for name in ("cls_token", "reg_token") if name in names)
    patch_embed = [name for name in names if name.startswith("patch_embed.")]
    first = [*patch_embed, *(name for name in names if name == "pos_embed")]
    others = [name for name in names if name not in {*prefix, *first}]
    return [*([prefix] if prefix else []), *((name,) for name in [*first, *others])]
