"""The tiny Wan 2.1 VAE: its configuration, its file with the original key names, and both ways through it at once.

Diffusers holds the layers; it runs them four frames at a time with a cache, which is right for long videos and slow for
training. `encode_moments` and `decode_latents` run the same layers over all frames in one go: a causal convolution over
the whole clip equals one over its pieces with what came before remembered.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from demo.latents import LATENT_CHANNELS

BASE_DIM = 8  # the released VAE has 96; ComfyUI reads the width from the file

# names inside a residual block and at the ends: diffusers' name -> the original's
RESIDUAL = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}
ENDS = {
    "conv_in": "conv1",
    "norm_out": "head.0",
    "conv_out": "head.2",
    "mid_block.resnets.0": "middle.0",
    "mid_block.attentions.0": "middle.1",
    "mid_block.resnets.1": "middle.2",
}
BLOCKS_PER_LEVEL = 4  # of the decoder: three residual blocks and an upsampler, numbered through in the original


def tiny_vae() -> AutoencoderKLWan:
    """Return a Wan 2.1 VAE a twelfth as wide as the released one, with torch's random weights."""
    return AutoencoderKLWan(
        base_dim=BASE_DIM,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        temperal_downsample=[False, True, True],
    )


def original_name(name: str) -> str:
    """Return the released checkpoint's name of a parameter of diffusers' AutoencoderKLWan."""
    name = re.sub(r"^quant_conv\.", "conv1.", name)
    name = re.sub(r"^post_quant_conv\.", "conv2.", name)
    side, _, rest = name.partition(".")
    if side not in ("encoder", "decoder"):
        return name
    rest = re.sub(r"^down_blocks\.", "downsamples.", rest)
    found = re.match(r"up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\.", rest)
    if found:
        level, kind, index = int(found[1]), found[2], int(found[3])
        number = BLOCKS_PER_LEVEL * level + (index if kind == "resnets" else BLOCKS_PER_LEVEL - 1)
        rest = f"upsamples.{number}.{rest[found.end() :]}"
    for diffusers_name, original in ENDS.items():
        if rest.startswith(diffusers_name + "."):
            rest = original + rest[len(diffusers_name) :]
            break
    rest = re.sub(
        r"^((?:downsamples|upsamples|middle)\.\d+)\.(norm1|conv1|norm2|conv2|conv_shortcut)\.",
        lambda match: f"{match[1]}.{RESIDUAL[match[2]]}.",
        rest,
    )
    return f"{side}.{rest}"


def original_state_dict(vae: AutoencoderKLWan) -> dict[str, Tensor]:
    """Return the weights under the released checkpoint's names."""
    return {original_name(name): tensor for name, tensor in vae.state_dict().items()}


def save_vae(vae: AutoencoderKLWan, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the VAE as the released one is written, so that every Wan VAE loader takes it."""
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in original_state_dict(vae).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def load_vae(path: Path) -> AutoencoderKLWan:
    """Read a VAE of this size with original key names, in float32, ready for use."""
    vae = tiny_vae()
    stored = load_file(path)
    vae.load_state_dict({name: stored[original_name(name)].float() for name in vae.state_dict()})
    return vae.eval().requires_grad_(False)


def encode_moments(vae: AutoencoderKLWan, pixels: Tensor) -> Tensor:
    """Encode whole clips at once.

    Args:
        vae: the VAE.
        pixels: float [B, 3, 4 * (F - 1) + 1, H, W], -1..1.

    Returns:
        Mean and log variance [B, 32, F, H / 8, W / 8], in the VAE's own scale.
    """
    encoder = vae.encoder
    x = encoder.conv_in(pixels)
    for layer in encoder.down_blocks:
        x = layer(x)  # without a cache, resampling is in space only
        if getattr(layer, "mode", None) == "downsample3d" and x.shape[2] > 1:
            x = torch.cat((x[:, :, :1], layer.time_conv(x)), dim=2)
    x = encoder.mid_block(x)
    return vae.quant_conv(encoder.conv_out(encoder.nonlinearity(encoder.norm_out(x))))


def decode_latents(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Decode whole clips at once.

    Args:
        vae: the VAE.
        latents: [B, 16, F, h, w] in the VAE's own scale.

    Returns:
        float [B, 3, 4 * (F - 1) + 1, 8 * h, 8 * w], about -1..1, not clipped.
    """
    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latents)))
    for block in decoder.up_blocks:
        for layer in (*block.resnets, *(block.upsamplers or ())):
            if getattr(layer, "mode", None) == "upsample3d" and x.shape[2] > 1:
                x = torch.cat((x[:, :, :1], doubled(layer.time_conv(x[:, :, 1:]))), dim=2)
            x = layer(x)
    return decoder.conv_out(decoder.nonlinearity(decoder.norm_out(x)))


def doubled(x: Tensor) -> Tensor:
    """Return [B, C, 2 F, H, W] for [B, 2 C, F, H, W]: the two halves of the channels are neighbouring frames."""
    return x.unflatten(1, (2, -1)).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)


def latent_scale(vae: AutoencoderKLWan, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and spread [16, 1, 1, 1] of the released VAE's latents: the transformer sees (z - mean) / spread."""
    mean = like.new_tensor(vae.config.latents_mean).view(-1, 1, 1, 1)
    return mean, like.new_tensor(vae.config.latents_std).view(-1, 1, 1, 1)


def encode_scaled(vae: AutoencoderKLWan, pixels: Tensor) -> Tensor:
    """Return the transformer's latents [B, 16, F, H / 8, W / 8] for pixels [B, 3, 4 * (F - 1) + 1, H, W], -1..1."""
    mean, spread = latent_scale(vae, pixels)
    return (encode_moments(vae, pixels)[:, :LATENT_CHANNELS].float() - mean) / spread


def decode_scaled(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Return pixels [B, 3, 4 * (F - 1) + 1, H, W], about -1..1, for the transformer's latents [B, 16, F, h, w]."""
    mean, spread = latent_scale(vae, latents)
    return decode_latents(vae, latents * spread + mean).float()


def encode(vae: AutoencoderKLWan, pixels: Tensor) -> Tensor:
    """Return the transformer's latents [B, 16, F, H / 8, W / 8] for pixels [B, 4 * (F - 1) + 1, H, W, 3], 0..1."""
    return encode_scaled(vae, pixels.permute(0, 4, 1, 2, 3) * 2 - 1)


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Return pixels [B, 4 * (F - 1) + 1, H, W, 3], 0..1, for the transformer's latents [B, 16, F, H / 8, W / 8]."""
    return (decode_scaled(vae, latents).permute(0, 2, 3, 4, 1) / 2 + 0.5).clamp(0, 1)


def initialise(vae: nn.Module) -> None:
    """Make a fresh VAE train fast: convolutions keep the spread of what they are given, and biases are zero.

    With torch's usual start every layer outside the residual branches shrinks the picture by about half, until what the
    latents hold is the biases and no picture; training then never finds it again.
    """
    for module in vae.modules():
        if isinstance(module, nn.Conv3d | nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in vae.modules():
        if type(module).__name__ == "WanResidualBlock":
            module.get_submodule("conv2").get_parameter("weight").data *= 0.5
