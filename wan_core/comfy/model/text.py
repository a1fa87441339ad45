"""Prompts through ComfyUI's umt5 text encoder."""

from __future__ import annotations

from typing import Any

from ...errors import InputError
from ...finite import check_finite
from ...words import words

UMT5 = "umt5xxl"  # the name under which ComfyUI's Wan text encoder takes its tokens
MOST_TOKENS = 4096  # eight times what the models read; the encoder's memory grows with the square: 4.3 GB for these


def encode_prompt(clip: Any, text: str) -> list[Any]:
    """Encode a prompt.

    Args:
        clip: CLIP of type wan.
        text: the prompt.

    Returns:
        CONDITIONING, one entry of [1, 512 or more, 4096].

    Raises:
        InputError: the CLIP is missing or of another type, or the prompt is far too long.
        NotFiniteError: it makes NaN or infinity of the prompt.
    """
    if clip is None:
        raise InputError(
            "There is no text encoder: the checkpoint that the CLIP comes from has none, so load umt5_xxl with "
            'CLIPLoader, type "wan".'
        )
    tokens = clip.tokenize(text)
    if UMT5 not in tokens:
        raise InputError(
            "The text encoder reads {tokens} tokens, but SkyReels-V2 needs umt5_xxl: load it with "
            'CLIPLoader and set its type to "wan".',
            tokens=", ".join(tokens),
        )
    length = sum(len(part) for part in tokens[UMT5])
    if length > MOST_TOKENS:
        raise InputError(
            "The prompt has {length} tokens, but {most} are the most that are encoded, and the models read about 512 "
            "of them: shorten it.",
            length=length,
            most=MOST_TOKENS,
        )
    encoded: list[Any] = clip.encode_from_tokens_scheduled(tokens)
    advice = words("its numbers overflow, as they can in fp16, or its file is damaged: load another file of umt5_xxl")
    for tensor, _ in encoded:
        check_finite(tensor, words("What the text encoder made of the prompt"), advice)
    return encoded
