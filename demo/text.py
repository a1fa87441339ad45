"""The tiny text encoder: UTF-8 bytes in, eight tokens out. Both languages work, and nothing has to be downloaded.

Convolutions read words from bytes, attention layers read the sentence, and eight learned queries take from it what the
transformer's cross attention gets. It is a plain module, so that a host can wrap it as its own kind of text encoder.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MAX_BYTES = 96  # longer prompts are cut
PADDING = 0  # a byte that no text has
TEXT_DIM = 96
TEXT_TOKENS = 8
HEADS = 4
LAYERS = 2
REACH = 7  # bytes that a convolution sees: two Chinese characters


def tokenize(text: str) -> Tensor:
    """Return the text's bytes, int64 [1, MAX_BYTES], padded with zeros.

    A character that does not fit whole is left out; capitals count as small letters.
    """
    encoded = text.strip().lower().encode("utf-8")[:MAX_BYTES].decode("utf-8", "ignore").encode("utf-8")
    encoded = encoded.replace(b"\0", b" ")
    return torch.tensor([list(encoded.ljust(MAX_BYTES, bytes([PADDING])))])


class TextEncoder(nn.Module):
    """Bytes to tokens of width TEXT_DIM."""

    def __init__(self, dim: int = TEXT_DIM, tokens: int = TEXT_TOKENS):
        super().__init__()
        self.bytes = nn.Embedding(256, dim)
        self.position = nn.Parameter(torch.randn(MAX_BYTES, dim) * 0.02)
        self.convolutions = nn.ModuleList([nn.Conv1d(dim, dim, REACH, padding=REACH // 2) for _ in range(2)])
        layer = nn.TransformerEncoderLayer(
            dim, HEADS, 2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.sentence = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.queries = nn.Parameter(torch.randn(tokens, dim) * 0.5)
        self.gather = nn.MultiheadAttention(dim, HEADS, batch_first=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, ids: Tensor) -> Tensor:
        """Return tokens [B, TEXT_TOKENS, TEXT_DIM] for bytes [B, MAX_BYTES]."""
        padding = ids == PADDING
        padding[:, 0] = False  # an empty prompt keeps one token to look at
        x = self.bytes(ids) + self.position
        for convolution in self.convolutions:
            x = x + torch.nn.functional.gelu(convolution(x.transpose(1, 2)).transpose(1, 2))
        x = self.sentence(x, src_key_padding_mask=padding)
        queries = self.queries.expand(len(ids), -1, -1)
        gathered, _ = self.gather(queries, x, x, key_padding_mask=padding, need_weights=False)
        return self.norm(queries + gathered)


def save_text_encoder(encoder: TextEncoder, path: Path) -> None:
    """Write the encoder in half precision."""
    halves = {name: tensor.detach().to("cpu", torch.float16) for name, tensor in encoder.named_parameters()}
    save_file({name: tensor.contiguous() for name, tensor in halves.items()}, path, metadata={"format": "pt"})


def load_text_encoder(path: Path) -> TextEncoder:
    """Read an encoder, in float32, ready for use."""
    encoder = TextEncoder()
    encoder.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return encoder.eval().requires_grad_(False)
