"""Small image-text models with random weights, as transformers writes them."""

import json
from pathlib import Path

import torch


def write_tokenizer(folder):
    """A tokenizer that knows letters only, as CLIP's files have it."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "bos_token": "<|startoftext|>",
                "eos_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>",
                "unk_token": "<|endoftext|>",
                "model_max_length": 20,
            }
        )
    )
    return len(names)


def write_clip(folder: Path) -> Path:
    """Write a CLIP with towers of two layers, for images of 16 x 16 pixels, and its tokenizer."""
    import transformers

    torch.manual_seed(0)
    words = write_tokenizer(folder)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**tower, "vocab_size": words, "max_position_embeddings": 20, "eos_token_id": words - 1},
        vision_config={**tower, "hidden_size": 24, "image_size": 16, "patch_size": 4},
        projection_dim=12,
    )
    transformers.CLIPModel(config).eval().save_pretrained(folder)
    return folder
