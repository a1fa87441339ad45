"""Says what a safetensors file is when it is no Wan transformer, and where such a file belongs.

Told by key names alone, in the namings of the original authors, of ComfyUI and of diffusers. The tables are read from
the top: what a file is made of more than one part (a checkpoint with its VAE, a LoRA of a ControlNet) comes first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from ..words import Words, words

Row = tuple[re.Pattern[str], Words, Words]  # any key matches -> what it is, what to do with it

UMT5 = "SkyReels-V2 reads text with umt5_xxl, from models/text_encoders, loaded with Load CLIP, type wan"
WAN_VAE = "SkyReels-V2 needs wan_2.1_vae, from models/vae, loaded with Load VAE"
CONTROL = "SkyReels-V2 has no ControlNet of this kind, so keep it in models/controlnet for the models it was made for"


WAN = words("Wan")
LORA_FOR_WAN = words("a LoRA for {model}", model=WAN)
LORA_OF_WAN = words(
    "put it into models/loras, load it with SkyReels-V2 LoRA Loader, and connect that after the model loader"
)
LORA_OF_OTHERS = words(
    "SkyReels-V2 takes only LoRAs for Wan 2.1 or SkyReels-V2, from models/loras through SkyReels-V2 LoRA Loader"
)


def _rows(*rows: tuple[str, str, str]) -> tuple[Row, ...]:
    return tuple((re.compile(pattern), words(what), words(advice)) for pattern, what, advice in rows)


_LORA = re.compile(
    r"lora_[AB]\b|lora_(down|up|mid)\b|\blora\.(down|up)\.|_lora\.(down|up)\.|lora_linear_layer\.|lora_magnitude_vector"
    r"|lokr_|hada_|oft_blocks|oft_diag|dora_scale|\.(diff|diff_b|set_weight|reshape_weight)$"
    r"|^(lora_unet|lora_te\d?|lora_transformer|lycoris)_"
)
_FLAT_PREFIX = re.compile(r"^(lora_unet|lora_transformer|lycoris)_+")
_LORA_OF = tuple(
    (re.compile(pattern), words(of))
    for pattern, of in (
        (r"joint_blocks[._]\d", "SD3"),
        (r"single_transformer_blocks[._]\d|(double|single)_blocks[._]\d", "Flux or Hunyuan Video"),
        (r"((down|up|input|output)_blocks|middle_block|mid_block)[._]", "Stable Diffusion or SDXL"),
        (r"(^|\.|_)transformer_blocks[._]\d", "another video or image model, such as LTX or Qwen-Image"),
        (
            r"(^|\.)blocks[._]\d+[._](self_attn[._](q|k|v|o|norm_[qk])\b|cross_attn[._](q|k|v|o|k_img|v_img|norm_[qk])\b"
            r"|attn[12][._](to_|add_)|ffn[._](0|2|net)(\b|_)|(modulation|norm3)\.)"
            r"|(^|\.)(text_embedding|time_embedding|time_projection|patch_embedding|head\.head|condition_embedder)[._]",
            "Wan",
        ),
        (r"lora_te|text_model|text_encoder", "a CLIP text encoder"),
    )
)

# Parts that are added to a model, and files of other trades.
_PARTS = _rows(
    (
        r"\bcontrolnet_patch_embedding\.",
        "Uni3C, a ControlNet for Wan",
        "put it into models/model_patches and load it with Load Model Patch, beside a diffusion model",
    ),
    (
        r"\bcontrol_model\.|\bcontrolnet_(cond_embedding|blocks|down_blocks|mid_block|x_embedder|mode_embedder)\b"
        r"|\binput_hint_block\.|\bzero_convs\.|\blllite_|^control_(layers|all_x_embedder|blocks|encoder)\b",
        "a ControlNet",
        CONTROL,
    ),
    (r"^(adapter\.)?body\.\d+\.(in_conv|block1|resnets)\b", "a T2I-Adapter", CONTROL),
    (r"^(ip_adapter|image_proj|id_encoder)\.", "an IP-Adapter or PhotoMaker file", "SkyReels-V2 can't use it"),
    (r"\bmotion_modules\.", "an AnimateDiff motion module", "SkyReels-V2 can't use it: it belongs to Stable Diffusion"),
    (r"^latent_(tensor|format_version_\d+)$", "a saved latent", "put it into the input folder for Load Latent"),
    (
        r"^(emb_params|clip_[lg]|string_to_param\..*)$",
        "a textual inversion embedding",
        "SkyReels-V2 can't use it: embeddings belong to the text encoder of one model",
    ),
    (r"^redux_(up|down)\.", "a Flux style model", "put it into models/style_models"),
    (
        r"^(body\.\d+\.(weight|bias)$|conv_first\.|RRDB_trunk\.|model\.0\.|model\.1\.sub\.|params(_ema)?\.|layers\.\d+\.residual_group\.)",
        "an upscale model",
        "put it into models/upscale_models and load it with Load Upscale Model",
    ),
    (
        r"\bfeature_extractor\.conv_layers\.|^(model\.)?encoder\.embed_positions\.|^wav2vec2\.",
        "an audio encoder",
        "SkyReels-V2 hears nothing, so keep it in models/audio_encoders for models that do",
    ),
)

# Every pattern has to match a key; what stands before it, such as model.diffusion_model., does not matter.
_DIFFUSION = tuple(
    (tuple(re.compile(pattern) for pattern in patterns), words(name))
    for *patterns, name in (
        (r"\binput_blocks\.\d", r"\btime_stack\.", "a Stable Video Diffusion"),
        (r"\binput_blocks\.\d", r"\blabel_emb\.|\bconditioner\.embedders\.", "an SDXL"),
        (r"\binput_blocks\.\d", "a Stable Diffusion 1.x or 2.x"),
        (r"^(unet\.)?down_blocks\.\d+\.(resnets|attentions)\.", r"\badd_embedding\.", "an SDXL"),
        (r"^(unet\.)?down_blocks\.\d+\.(resnets|attentions)\.", "a Stable Diffusion 1.x or 2.x"),
        (r"\bindividual_token_refiner\.|\bcontext_embedder\.token_refiner\.", "a Hunyuan Video"),
        (r"\b(double|single)_blocks\.\d", r"\blatent_in\.", "a Hunyuan 3D"),
        (r"\bdouble_blocks\.\d", r"\bdistilled_guidance_layer\.", "a Chroma"),
        (r"\b(double_blocks\.\d+\.(img|txt)_|double_stream_modulation|single_transformer_blocks\.\d)", "a Flux"),
        (r"\bt5_yproj\.|\bpos_frequencies$", "a Mochi"),
        (r"\bjoint_blocks\.\d", "an SD3"),
        (r"\btransformer_blocks\.\d+\.img_mod\.", "a Qwen-Image"),
        (r"\btransformer_blocks\.\d+\.attn\.add_q_proj\.", r"\bpos_embed\.proj\.", "an SD3"),
        (r"\bpatchify_proj\.", "an LTX-Video"),
        (r"\btransformer_blocks\.\d+\.attn1\.norm_q\.", r"\btime_embed\.emb\.", "an LTX-Video"),
        (r"\b(transformer_)?blocks\.\d+\.norm1\.linear\.", r"\bpatch_embed\.", "a CogVideoX"),
        (r"\bblocks\.block\d+\.|\bblocks\.\d+\.mlp\.layer1\.", "a Cosmos"),
        (r"\b(cap_embedder|noise_refiner)\.", "a Lumina or Z-Image"),
        (r"\b(double|single)_stream_blocks\.\d|\bcaption_projection\.\d+\.linear\.", "a HiDream"),
        (r"\bvisual_transformer_blocks\.\d", "a Kandinsky"),
        (
            r"\b(transformer_blocks|double_blocks|single_blocks|double_layers|single_layers|t_block|mlp_t5|genre_embedder"
            r"|clip_txt_pooled_mapper|clip_mapper|to_timestep_embed|timestep_embedder|t_embedder|x_embedder)\.",
            "another diffusion",
        ),
    )
)
_OTHER_PARTS = re.compile(r"^(first_stage_model|cond_stage_model|conditioner|vae|text_encoders?)\.")

_ENCODERS = _rows(
    (
        r"^(blocks\.\d+\.ffn\.gate\.|token_embedding\.weight$)",
        "the UMT5 text encoder in its authors' naming",
        "ComfyUI can't read this form: put umt5_xxl_fp16.safetensors into models/text_encoders and load it with Load "
        "CLIP, type wan",
    ),
    (
        r"\bencoder\.block\.[1-9]\d*\.layer\.0\.SelfAttention\.relative_attention_bias\.",  # T5 has it in block 0 alone
        "a UMT5 text encoder",
        "put it into models/text_encoders and load it with Load CLIP, type wan",
    ),
    (r"\bblock\.\d+\.layer\.\d+\.(SelfAttention|DenseReluDense)\b", "a T5 text encoder", UMT5),
    (
        r"(^|\.)(language_model\.)?layers\.\d+\.(self_attn\.(q_proj|k_proj|sinks)|mlp\.(gate_proj|experts)|linear_attn)\b",
        "a language model",
        UMT5,
    ),
    (r"^(bert|roberta)\.|\bencoder\.layer\.\d+\.attention\.self\.", "a BERT text encoder", UMT5),
    (
        r"^visual\.transformer\.\d+\.|^textual\.",
        "a CLIP model in the naming of Wan's authors",
        "ComfyUI can't read this form: put clip_vision_h.safetensors into models/clip_vision and load it with Load "
        "CLIP Vision",
    ),
    (
        r"\bvision_model\.(encoder|embeddings)\.|^visual\.(transformer\.resblocks|conv1|class_embedding)\b"
        r"|\blayer\.\d+\.layer_scale",
        "a CLIP vision encoder",
        "put it into models/clip_vision and load it with Load CLIP Vision",
    ),
    (
        r"\btext_model\.(encoder|embeddings)\.|\btransformer\.resblocks\.\d|^cond_stage_model\.|^conditioner\.",
        "a CLIP text encoder",
        UMT5,
    ),
)

_VAES = _rows(
    (
        r"\bdecoder\.upsamples\.\d+\.upsamples\.|\bdecoder\.up_blocks\.\d+\.upsampler\.",
        "the VAE of Wan 2.2 5B",
        WAN_VAE,
    ),
    (
        r"\b(decoder|encoder)\.(middle\.\d+\.residual|(up|down)samples\.\d+\.residual)\.",
        "a Wan 2.1 VAE",
        "put it into models/vae and load it with Load VAE",
    ),
    (
        r"\b(decoder|encoder)\.mid_block\.(attentions|resnets)\.\d+\.norm\d?\.gamma$",
        "a Wan VAE in diffusers' naming",
        "ComfyUI can't read this form: put wan_2.1_vae.safetensors into models/vae and load it with Load VAE",
    ),
    (
        r"^taesd_|^((de|en)coder\.)?\d+\.(conv\.\d+\.)?(weight|bias)$",
        "a tiny VAE for previews",
        "put it into models/vae_approx",
    ),
    (
        r"\bper_channel_statistics\.|\b(decoder|encoder)\.(up|down)_blocks\.\d+\.res_blocks\.|\blatents_mean$",
        "the VAE of LTX-Video",
        WAN_VAE,
    ),
    (r"\b(decoder|encoder)\.conv_in\.conv\.", "the VAE of another video model, such as Hunyuan Video", WAN_VAE),
    (r"\bvocoder\.|\bdecoder\.layers\.\d+\.layers\.", "a VAE for sound", WAN_VAE),
    (r"^((first_stage_model|vae)\.)?bn\.running_mean$", "the VAE of Flux 2", WAN_VAE),
    (r"\b(post_)?quant_conv\.", "the VAE of Stable Diffusion or SDXL", WAN_VAE),
    (r"\b(decoder|encoder)\.conv_in\.", "the VAE of SD3 or Flux", WAN_VAE),
    (
        r"^(first_stage_model|vae)\.|^(encoder|decoder)\.(middle|mid_block|mid|head|conv1|downsamples)\b",
        "a VAE",
        WAN_VAE,
    ),
)

# Wan models with modules that SkyReels-V2 does not have, under the original key names.
_RELATIVES = tuple(
    (re.compile(pattern), words(what))
    for pattern, what in (
        (r"vace_(blocks|patch_embedding)\.", "VACE"),
        (r"control_adapter\.", "camera-control"),
        (r"casual_audio_encoder\.|trainable_cond_mask\.", "speech-to-video (S2V)"),
        (r"audio_proj\.|blocks\.\d+\.audio_cross_attn\.", "HuMo or talking-head"),
        (r"face_adapter\.|motion_encoder\.", "Animate"),
        (r"patch_embedding_(pose|mask)\.|pose_patch_embedding\.", "SCAIL"),
        (r"patch_embedding_global\.", "WanDancer"),
        (r"blocks\.\d+\.(cam_encoder|projector)\.", "ReCamMaster"),
        (r"ref_conv\.", "Fun Control"),
        (r"img_emb\.emb_pos$", "first-last-frame (FLF2V)"),
    )
)
_PREFIX = re.compile(r"^(model\.)?(diffusion_model\.)?")


def foreign_kind(keys: Collection[str]) -> tuple[Words, Words] | None:
    """Guess what a file is that is no Wan transformer.

    Args:
        keys: its parameter names.

    Returns:
        What it looks like and what to do with it, or None if nothing is recognised.
    """
    if _any(_LORA, keys):
        return _lora_kind(keys)
    if part := _first(_PARTS, keys):
        return part
    for patterns, name in _DIFFUSION:
        if all(_any(pattern, keys) for pattern in patterns):
            if _any(_OTHER_PARTS, keys):
                advice = words("load it with Load Checkpoint, from models/checkpoints")
                return words("{name} checkpoint", name=name), advice
            advice = words("load it with Load Diffusion Model, or with the loader of its own workflow")
            return words("{name} model", name=name), advice
    if relative := wan_relative({_PREFIX.sub("", key) for key in keys}):
        return (
            words("the {relative} module of a Wan model, without the model itself", relative=relative),
            words(
                "load a whole Wan {relative} model with Load Diffusion Model, or this one with the nodes it was made "
                "for",
                relative=relative,
            ),
        )
    return _first(_ENCODERS, keys) or _first(_VAES, keys)


def wan_relative(keys: Collection[str]) -> Words | None:
    """Name the kind of Wan model that has more modules than SkyReels-V2 has.

    Args:
        keys: parameter names, original naming.

    Returns:
        The kind, e.g. "VACE", or None if the names are those of a plain t2v or i2v model.
    """
    return next((what for pattern, what in _RELATIVES if any(pattern.match(key) for key in keys)), None)


def _lora_kind(keys: Collection[str]) -> tuple[Words, Words]:
    modules = {_FLAT_PREFIX.sub("", key) for key in keys}
    of = next((of for pattern, of in _LORA_OF if _any(pattern, modules)), words("another model"))
    return words("a LoRA for {model}", model=of), LORA_OF_WAN if of == WAN else LORA_OF_OTHERS


def _any(pattern: re.Pattern[str], keys: Collection[str]) -> bool:
    return any(pattern.search(key) for key in keys)


def _first(rows: Iterable[Row], keys: Collection[str]) -> tuple[Words, Words] | None:
    return next(((what, advice) for pattern, what, advice in rows if _any(pattern, keys)), None)
