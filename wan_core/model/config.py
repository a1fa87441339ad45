"""The shape of a Wan transformer and the eight released SkyReels-V2 models; reads no files and holds no weights.

Source: field names and class defaults are those of the WanModel of the SkyReels-V2 release; the table of models and
settings is from its README and config.json files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import InputError
from .geometry import WAN21, Geometry, geometry_of

IMAGE_DIM = 1280  # width of the CLIP vision tokens that the I2V models read


@dataclass(frozen=True)
class WanConfig:
    """The numbers that fix a Wan transformer's architecture, under the reference's names.

    Args:
        model_type: "t2v" (text), or "i2v" (text and CLIP image tokens in cross attention).
        patch_size: latent frames, height and width of one token.
        text_len: text tokens the model was trained with.
        in_dim: input channels (16 latent channels; 36 with I2V's mask and image latents).
        dim: width of the token stream.
        ffn_dim: hidden width of the feed-forward layers.
        freq_dim: width of the sinusoidal time embedding.
        text_dim: width of the text encoder's tokens (4096 for umt5-xxl).
        out_dim: output channels.
        num_heads: attention heads; dim / num_heads must be even.
        num_layers: number of WanAttentionBlocks.
        window_size: local attention window of the reference; (-1, -1) means none, the only value released.
        qk_norm: RMS norm on queries and keys, over the full width.
        cross_attn_norm: affine layer norm (norm3) before cross attention.
        inject_sample_info: the model has fps weights (of the releases only DF-1.3B).
        eps: epsilon of every norm.

    Raises:
        InputError: if a number cannot make a model.
    """

    model_type: str = "t2v"
    patch_size: tuple[int, int, int] = WAN21.patch
    text_len: int = 512
    in_dim: int = WAN21.channels
    dim: int = 2048
    ffn_dim: int = 8192
    freq_dim: int = 256
    text_dim: int = 4096
    out_dim: int = WAN21.channels
    num_heads: int = 16
    num_layers: int = 32
    window_size: tuple[int, int] = (-1, -1)
    qk_norm: bool = True
    cross_attn_norm: bool = True
    inject_sample_info: bool = False
    eps: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse numbers that cannot make a model."""
        if self.model_type not in ("t2v", "i2v"):
            raise InputError("model_type is {model_type!r}; use 't2v' or 'i2v'.", model_type=self.model_type)
        counts = ("text_len", "in_dim", "dim", "ffn_dim", "freq_dim", "text_dim", "out_dim", "num_heads", "num_layers")
        for name in counts:
            if getattr(self, name) < 1:
                raise InputError(
                    "{name} is {value}; a Wan model needs at least 1.", name=name, value=getattr(self, name)
                )
        if len(self.patch_size) != 3 or min(self.patch_size) < 1:
            raise InputError(
                "patch_size is {patch_size}; use three positive numbers such as (1, 2, 2).", patch_size=self.patch_size
            )
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise InputError(
                "dim {dim} does not split into {num_heads} heads of even width; use a num_heads that divides dim / 2.",
                dim=self.dim,
                num_heads=self.num_heads,
            )
        if self.freq_dim % 2:
            raise InputError(
                "freq_dim is {freq_dim}; use an even number (half sines, half cosines).", freq_dim=self.freq_dim
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.num_heads

    @property
    def geometry(self) -> Geometry:
        """What the model's latents are of a video; `Raises: InputError` for latents of a VAE that isn't known."""
        return replace(geometry_of(self.out_dim), patch=self.patch_size)

    @classmethod
    def preset(cls, name: str) -> WanConfig:
        """Give the configuration of a released model.

        Args:
            name: one of PRESETS, e.g. "DF-1.3B-540P".

        Returns:
            Its configuration.

        Raises:
            InputError: if no such model was released.
        """
        if name not in PRESETS:
            raise InputError(
                "{name!r} is not a released SkyReels-V2 model; use one of {names}.", name=name, names=", ".join(PRESETS)
            )
        return PRESETS[name].config

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """List every parameter of the model this configuration describes.

        Returns:
            Original key name -> shape, in the order of the forward pass.
        """
        dim = self.dim
        patch = self.patch_size
        shapes: dict[str, tuple[int, ...]] = {
            "patch_embedding.weight": (dim, self.in_dim, *patch),
            "patch_embedding.bias": (dim,),
            **_linear("text_embedding.0", self.text_dim, dim),
            **_linear("text_embedding.2", dim, dim),
            **_linear("time_embedding.0", self.freq_dim, dim),
            **_linear("time_embedding.2", dim, dim),
            **_linear("time_projection.1", dim, 6 * dim),
        }
        if self.inject_sample_info:
            shapes["fps_embedding.weight"] = (2, dim)
            shapes |= _linear("fps_projection.0", dim, dim) | _linear("fps_projection.2", dim, 6 * dim)
        if self.model_type == "i2v":
            shapes |= _norm("img_emb.proj.0", IMAGE_DIM) | _linear("img_emb.proj.1", IMAGE_DIM, IMAGE_DIM)
            shapes |= _linear("img_emb.proj.3", IMAGE_DIM, dim) | _norm("img_emb.proj.4", dim)
        for index in range(self.num_layers):
            shapes |= {f"blocks.{index}.{key}": shape for key, shape in self._block_shapes().items()}
        shapes |= _linear("head.head", dim, self.out_dim * patch[0] * patch[1] * patch[2])
        shapes["head.modulation"] = (1, 2, dim)
        return shapes

    def _block_shapes(self) -> dict[str, tuple[int, ...]]:
        dim = self.dim
        shapes: dict[str, tuple[int, ...]] = {"modulation": (1, 6, dim)}
        for attention in ("self_attn", "cross_attn"):
            for name in "qkvo":
                shapes |= _linear(f"{attention}.{name}", dim, dim)
            if self.qk_norm:
                shapes |= {f"{attention}.norm_q.weight": (dim,), f"{attention}.norm_k.weight": (dim,)}
        if self.model_type == "i2v":
            shapes |= _linear("cross_attn.k_img", dim, dim) | _linear("cross_attn.v_img", dim, dim)
            if self.qk_norm:
                shapes["cross_attn.norm_k_img.weight"] = (dim,)
        if self.cross_attn_norm:
            shapes |= _norm("norm3", dim)
        return shapes | _linear("ffn.0", dim, self.ffn_dim) | _linear("ffn.2", self.ffn_dim, dim)


@dataclass(frozen=True)
class ReleasedModel:
    """A released model and the settings its authors recommend for it.

    Args:
        config: its architecture.
        base_num_frames: video frames of one window.
        width: video width in pixels, landscape.
        height: video height in pixels, landscape.
        shift: flow-matching shift.
        guidance: classifier-free guidance scale.
        steps: denoising steps.
    """

    config: WanConfig
    base_num_frames: int
    width: int
    height: int
    shift: float
    guidance: float
    steps: int = 30


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


_SMALL = WanConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=30)
_LARGE = WanConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=40)


def _text_540p(config: WanConfig) -> ReleasedModel:
    return ReleasedModel(config, base_num_frames=97, width=960, height=544, shift=8.0, guidance=6.0)


def _text_720p(config: WanConfig) -> ReleasedModel:
    return ReleasedModel(config, base_num_frames=121, width=1280, height=720, shift=8.0, guidance=6.0)


def _from_image(model: ReleasedModel) -> ReleasedModel:
    config = replace(model.config, model_type="i2v", in_dim=36)
    return replace(model, config=config, shift=5.0, guidance=5.0)  # the README's option table; its notes say shift 3


PRESETS: dict[str, ReleasedModel] = {
    "DF-1.3B-540P": _text_540p(replace(_SMALL, inject_sample_info=True)),
    "DF-14B-540P": _text_540p(_LARGE),
    "DF-14B-720P": _text_720p(_LARGE),
    "T2V-14B-540P": _text_540p(_LARGE),
    "T2V-14B-720P": _text_720p(_LARGE),
    "I2V-1.3B-540P": _from_image(_text_540p(_SMALL)),
    "I2V-14B-540P": _from_image(_text_540p(_LARGE)),
    "I2V-14B-720P": _from_image(_text_720p(_LARGE)),
}
