"""Files of other kinds are named for what they are: key names come from diffusers, transformers and released files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
import transformers

from wan_core.checkpoint.foreign import foreign_kind

SMALL_UNET: dict[str, Any] = {
    "block_out_channels": (32, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
}
SMALL_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 16,
}
SMALL_T5: dict[str, Any] = {"d_model": 32, "d_ff": 32, "d_kv": 8, "num_layers": 2, "num_heads": 2, "vocab_size": 16}
HEADS: dict[str, Any] = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16}


def unet(**more: Any) -> torch.nn.Module:
    up = ("UpBlock2D", "CrossAttnUpBlock2D")
    return diffusers.UNet2DConditionModel(**SMALL_UNET, up_block_types=up, **more)


def sdxl_unet() -> torch.nn.Module:
    more = {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 64}
    return unet(addition_embed_type="text_time", **more)


# what it has to be called -> (a part of the advice, who builds it)
BUILT: dict[str, tuple[str, Callable[[], torch.nn.Module]]] = {
    "a Stable Diffusion 1.x or 2.x model": ("Load Diffusion Model", unet),
    "an SDXL model": ("Load Diffusion Model", sdxl_unet),
    "an SD3 model": (
        "Load Diffusion Model",
        lambda: diffusers.SD3Transformer2DModel(**HEADS, caption_projection_dim=32),
    ),
    "a Flux model": (
        "Load Diffusion Model",
        lambda: diffusers.FluxTransformer2DModel(**HEADS, num_single_layers=1, axes_dims_rope=(4, 6, 6)),
    ),
    "a Hunyuan Video model": (
        "Load Diffusion Model",
        lambda: diffusers.HunyuanVideoTransformer3DModel(**HEADS, num_single_layers=1, rope_axes_dim=(4, 6, 6)),
    ),
    "an LTX-Video model": ("Load Diffusion Model", lambda: diffusers.LTXVideoTransformer3DModel(**HEADS)),
    "a CogVideoX model": ("Load Diffusion Model", lambda: diffusers.CogVideoXTransformer3DModel(**HEADS)),
    "a Qwen-Image model": (
        "Load Diffusion Model",
        lambda: diffusers.QwenImageTransformer2DModel(**HEADS, axes_dims_rope=(4, 6, 6)),
    ),
    "a ControlNet": ("models/controlnet", lambda: diffusers.ControlNetModel(**SMALL_UNET)),
    "a T2I-Adapter": ("models/controlnet", lambda: diffusers.T2IAdapter(channels=[32, 32], num_res_blocks=1)),
    "an AnimateDiff motion module": (
        "Stable Diffusion",
        lambda: diffusers.MotionAdapter(
            block_out_channels=(32, 32), motion_layers_per_block=1, motion_num_attention_heads=2
        ),
    ),
    "the VAE of Stable Diffusion or SDXL": ("wan_2.1_vae", lambda: diffusers.AutoencoderKL()),
    "the VAE of SD3 or Flux": (
        "wan_2.1_vae",
        lambda: diffusers.AutoencoderKL(latent_channels=16, use_quant_conv=False, use_post_quant_conv=False),
    ),
    "a Wan VAE in diffusers' naming": ("wan_2.1_vae.safetensors", lambda: diffusers.AutoencoderKLWan(base_dim=8)),
    "the VAE of Wan 2.2 5B": (
        "wan_2.1_vae",
        lambda: diffusers.AutoencoderKLWan(
            base_dim=8, decoder_base_dim=8, z_dim=48, is_residual=True, in_channels=12, out_channels=12, patch_size=2
        ),
    ),
    "the VAE of LTX-Video": ("wan_2.1_vae", lambda: diffusers.AutoencoderKLLTXVideo()),
    "the VAE of another video model, such as Hunyuan Video": (
        "wan_2.1_vae",
        lambda: diffusers.AutoencoderKLHunyuanVideo(block_out_channels=(32, 32, 32, 32), layers_per_block=1),
    ),
    "a UMT5 text encoder": (
        "Load CLIP, type wan",
        lambda: transformers.UMT5EncoderModel(transformers.UMT5Config(**SMALL_T5)),
    ),
    "a T5 text encoder": ("umt5_xxl", lambda: transformers.T5EncoderModel(transformers.T5Config(**SMALL_T5))),
    "a language model": ("umt5_xxl", lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL_TEXT))),
    "a BERT text encoder": (
        "umt5_xxl",
        lambda: transformers.BertModel(
            transformers.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        ),
    ),
    "an audio encoder": (
        "models/audio_encoders",
        lambda: transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(num_hidden_layers=1, hidden_size=96)),
    ),
}


@pytest.mark.parametrize("kind", BUILT)
def test_a_model_that_another_library_builds_is_named_with_what_to_do(kind: str) -> None:
    advice, build = BUILT[kind]
    with torch.device("meta"):
        keys = build().state_dict().keys()
    found = foreign_kind(keys)
    assert found is not None
    assert str(found[0]) == kind
    assert advice in str(found[1])


SD15 = (
    "model.diffusion_model.input_blocks.0.0.weight",
    "first_stage_model.decoder.conv_in.weight",
    "first_stage_model.quant_conv.weight",
    "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
)
FLUX = ("double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight", "img_in.weight")
KNOWN = [
    (SD15, "a Stable Diffusion 1.x or 2.x checkpoint", "Load Checkpoint"),
    (
        (
            "model.diffusion_model.input_blocks.0.0.weight",
            "model.diffusion_model.label_emb.0.0.weight",
            "first_stage_model.quant_conv.weight",
            "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
        ),
        "an SDXL checkpoint",
        "Load Checkpoint",
    ),
    (("model.diffusion_model.input_blocks.0.0.weight",), "a Stable Diffusion 1.x or 2.x model", "Load Diffusion Model"),
    (
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "first_stage_model.decoder.conv_in.weight"),
        "an SD3 checkpoint",
        "Load Checkpoint",
    ),
    (
        ("model.diffusion_model.patchify_proj.weight", "vae.decoder.conv_in.conv.weight"),
        "an LTX-Video checkpoint",
        "Load Checkpoint",
    ),
    (FLUX, "a Flux model", "Load Diffusion Model"),
    (
        (*(f"model.diffusion_model.{key}" for key in FLUX), "text_encoders.clip_l.transformer.text_model.x", "vae.a"),
        "a Flux checkpoint",
        "Load Checkpoint",
    ),
    ((*FLUX, "distilled_guidance_layer.in_proj.weight"), "a Chroma model", "Load Diffusion Model"),
    (
        ("double_blocks.0.img_attn_qkv.weight", "txt_in.individual_token_refiner.blocks.0.norm1.weight"),
        "a Hunyuan Video model",
        "Load Diffusion Model",
    ),
    (("control_model.input_blocks.0.0.weight", "control_model.zero_convs.0.0.weight"), "a ControlNet", "controlnet"),
    (("controlnet_blocks.0.weight", "transformer_blocks.0.attn.to_q.weight"), "a ControlNet", "controlnet"),
    (
        ("controlnet_patch_embedding.weight", "controlnet_blocks.0.attn1.to_q.weight", "proj_out.0.weight"),
        "Uni3C, a ControlNet for Wan",
        "model_patches",
    ),
    (("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"), "an IP-Adapter or PhotoMaker file", "can't use it"),
    (
        ("vace_blocks.0.before_proj.weight", "vace_patch_embedding.weight"),
        "the VACE module of a Wan model, without the model itself",
        "whole Wan VACE model",
    ),
    (
        ("diffusion_model.vace_blocks.0.self_attn.q.weight",),
        "the VACE module of a Wan model, without the model itself",
        "whole Wan VACE model",
    ),
    (
        ("audio_proj.proj1.weight", "blocks.0.audio_cross_attn.q_linear.weight"),
        "the HuMo or talking-head module of a Wan model, without the model itself",
        "Load Diffusion Model",
    ),
    (("decoder.middle.0.residual.0.gamma", "encoder.conv1.weight", "conv1.weight"), "a Wan 2.1 VAE", "Load VAE"),
    (
        ("decoder.middle.0.residual.0.gamma", "decoder.upsamples.0.upsamples.0.residual.2.weight"),
        "the VAE of Wan 2.2 5B",
        "wan_2.1_vae",
    ),
    (("first_stage_model.decoder.conv_in.weight",), "the VAE of SD3 or Flux", "wan_2.1_vae"),
    (("decoder.1.weight", "decoder.22.bias", "encoder.0.weight"), "a tiny VAE for previews", "vae_approx"),
    (("1.weight", "3.conv.0.weight"), "a tiny VAE for previews", "vae_approx"),
    (("token_embedding.weight", "blocks.0.ffn.gate.0.weight"), "the UMT5 text encoder in its authors' naming", "can't"),
    (
        ("visual.transformer.0.attn.proj.weight", "textual.x"),
        "a CLIP model in the naming of Wan's authors",
        "clip_vision_h",
    ),
    (("text_model.encoder.layers.0.mlp.fc1.weight",), "a CLIP text encoder", "umt5_xxl"),
    (("vision_model.encoder.layers.0.mlp.fc1.weight",), "a CLIP vision encoder", "Load CLIP Vision"),
    (("transformer.resblocks.0.attn.in_proj_weight", "token_embedding.x"), "a CLIP text encoder", "umt5_xxl"),
    (("visual.transformer.resblocks.0.attn.in_proj_weight",), "a CLIP vision encoder", "Load CLIP Vision"),
    (
        ("model.language_model.layers.0.self_attn.q_proj.weight", "model.visual.blocks.0.attn.qkv.weight"),
        "a language model",
        "umt5_xxl",
    ),
    (
        ("model.layers.0.mlp.gate_proj.weight", "vision_model.embeddings.patch_embedding.weight"),
        "a language model",
        "umt5",
    ),
    (("latent_tensor", "latent_format_version_0"), "a saved latent", "Load Latent"),
    (
        ("bn.running_mean", "decoder.conv_in.weight", "decoder.post_quant_conv.weight"),
        "the VAE of Flux 2",
        "wan_2.1_vae",
    ),
    (("body.0.weight", "body.0.bias"), "an upscale model", "upscale_models"),
    (("emb_params",), "a textual inversion embedding", "can't use it"),
    (("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"), "an upscale model", "upscale_models"),
]


@pytest.mark.parametrize(("keys", "kind", "advice"), KNOWN, ids=[kind for _, kind, _ in KNOWN])
def test_a_released_file_is_named_with_what_to_do(keys: tuple[str, ...], kind: str, advice: str) -> None:
    found = foreign_kind(keys)
    assert found is not None
    assert str(found[0]) == kind
    assert advice in str(found[1])


LORAS = {
    "Wan": (
        "diffusion_model.blocks.0.self_attn.q.lora_A.weight",
        "diffusion_model.blocks.0.cross_attn.k_img.lora_down.weight",
        "lora_unet_blocks_0_self_attn_q.lora_down.weight",
        "lora_unet__blocks_0_ffn_0.hada_w1_a",
        "lycoris_blocks_3_cross_attn_v.lokr_w1",
        "transformer.blocks.0.attn1.to_q.lora_A.default.weight",
        "lora_transformer_blocks_0_attn2_to_k.lora_up.weight",
        "base_model.model.blocks.0.ffn.net.0.proj.lora_B.weight",
        "pipe.dit.blocks.0.ffn.2.lora_A.default.weight",
        "blocks.0.self_attn.q.diff_b",
        "diffusion_model.blocks.0.modulation.diff",
        "diffusion_model.head.head.diff",
        "blocks.0.self_attn.o.oft_blocks",
        "unet.blocks.0.attn1.to_q.lora.down.weight",
    ),
    "Stable Diffusion or SDXL": (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight",
        "lora_unet_input_blocks_1_1_proj_in.alpha",
        "unet.up_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
        "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight",
    ),
    "Flux or Hunyuan Video": (
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight",
        "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight",
        "diffusion_model.single_blocks.0.linear1.lora_B.weight",
    ),
    "SD3": ("diffusion_model.joint_blocks.0.x_block.attn.qkv.lora_A.weight",),
    "another video or image model, such as LTX or Qwen-Image": (
        "diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight",
        "transformer.transformer_blocks.0.img_mod.1.lora_A.weight",
    ),
    "a CLIP text encoder": ("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",),
    "another model": ("diffusion_model.layers.0.attention.to_q.lora_A.weight",),
}


@pytest.mark.parametrize(("of", "key"), [(of, key) for of, keys in LORAS.items() for key in keys])
def test_a_lora_of_any_naming_says_what_it_is_for_and_which_loader_takes_it(of: str, key: str) -> None:
    found = foreign_kind([key])
    assert found is not None
    what, advice = map(str, found)
    assert what == f"a LoRA for {of}"
    assert "SkyReels-V2 LoRA Loader" in advice
    assert ("models/loras" in advice) and (("takes only" in advice) == (of != "Wan"))


def test_names_of_no_known_file_are_given_no_kind() -> None:
    assert foreign_kind(["alpha", "beta"]) is None
    assert foreign_kind([]) is None
