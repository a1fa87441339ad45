"""A tiny umt5 made of ComfyUI's own classes: same tokenizer code, same node types, a few hundred rows of weights."""

from __future__ import annotations

import io
from typing import Any

import comfy.sd
import comfy.text_encoders.wan
import sentencepiece
import torch
from comfy.supported_models_base import ClipTarget

SENTENCES = (
    "a graceful white swan swims in a calm lake at dawn",
    "the camera follows a red car along the coast",
    "waves roll over dark rocks while clouds drift by",
    "色调艳丽 过曝 静态 细节模糊不清 字幕 最差质量",
)


def train_tokenizer() -> bytes:
    """Return a sentencepiece model with umt5's ids (pad 0, end 1, unknown 2); bytes cover every other character."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_writer=model,
        vocab_size=400,
        hard_vocab_limit=False,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def build_tiny_clip(width: int) -> Any:
    """Return a CLIP whose CONDITIONING is [1, 512, width], the same in every process.

    Args:
        width: channels of the text embedding; the released models take 4096.
    """
    tokenizer = train_tokenizer()
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer).get_piece_size()
    shape = {"d_model": width, "d_ff": 32, "d_kv": 16, "num_heads": 2, "num_layers": 1, "vocab_size": pieces}
    # the options are looked up under "<name>_model_config"; both spellings of the name have been in use
    options = {"umt5xxl_model_config": shape, "clip_umt5xxl_model_config": shape, "dtype": torch.float32}
    target = ClipTarget(comfy.text_encoders.wan.WanT5Tokenizer, comfy.text_encoders.wan.te())
    clip = comfy.sd.CLIP(target, tokenizer_data={"spiece_model": tokenizer}, model_options=options)
    generator = torch.Generator().manual_seed(0)
    for name, weight in clip.cond_stage_model.named_parameters():
        if "norm" in name:
            weight.data.fill_(1.0)
        elif weight.ndim == 2:  # an embedding row is a vector of unit entries, a matrix keeps the scale
            scale = 1.0 if "shared" in name or "bias" in name else weight.shape[1] ** -0.5
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * scale)
    return clip
