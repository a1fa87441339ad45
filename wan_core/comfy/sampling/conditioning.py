"""What CONDITIONING and patches may carry for a Wan 2.1 model, and what is refused because the model doesn't read it.

Core's nodes put images, sound or poses into a CONDITIONING, and a model that knows nothing of them makes its video as
if they weren't there. Here each such key is either read, as core's own Wan 2.1 model reads it, or refused by name.
Keys that nobody has heard of are refused if they hold a tensor; numbers and texts are left alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_base
import comfy.patcher_extension
import torch

from ...errors import InputError
from ...words import Words, joined, words
from ..model.checks import in_pixels, input_channels, model_geometry, takes_image
from ..node_text import tell
from .frame_noise import BESIDE_THE_CLIP

WRAPPER_KEY = "skyreels_v2_conditioning"
DEPTH = 4  # how deep a tensor may lie in a value


@dataclass(frozen=True)
class Unread:
    """A key of CONDITIONING that this model doesn't read.

    Attributes:
        what: it holds.
        node: a node that adds it.
        instead: what to do, an imperative.
    """

    what: Words
    node: str
    instead: Words


KEY_FRAMES = words("connect the image to SkyReels-V2 Start/End/Key Frames, or load an image-to-video model")
REFERENCE = words("connect the image to SkyReels-V2 Start/End/Key Frames, or remove the node")
SIXTEEN = words("load a 16-channel model")
OTHER_MODEL = words(
    "load the model that the node is made for with Load Diffusion Model and sample it with KSampler, or remove the node"
)
REMOVE = words("remove the node")
UNREAD: dict[str, Unread] = {
    "concat_latent_image": Unread(words("an image"), "WanImageToVideo", KEY_FRAMES),
    "concat_mask": Unread(words("the mask of an image"), "WanImageToVideo", KEY_FRAMES),
    "clip_vision_output": Unread(words("CLIP vision of an image"), "WanImageToVideo", KEY_FRAMES),
    "unclip_conditioning": Unread(words("CLIP vision of an image"), "unCLIPConditioning", KEY_FRAMES),
    "reference_latents": Unread(words("a reference image"), "ReferenceLatent", REFERENCE),
    "time_dim_concat": Unread(words("reference images"), "WanPhantomSubjectToVideo", SIXTEEN),
    "context_latents": Unread(words("reference videos or images"), "BerniniConditioning", SIXTEEN),
    "vace_frames": Unread(words("a control video"), "WanVaceToVideo", OTHER_MODEL),
    "vace_mask": Unread(words("a control mask"), "WanVaceToVideo", OTHER_MODEL),
    "camera_conditions": Unread(words("a camera path"), "WanCameraImageToVideo", OTHER_MODEL),
    "audio_embed": Unread(words("sound"), "WanSoundImageToVideo", OTHER_MODEL),
    "reference_motion": Unread(words("earlier frames"), "WanSoundImageToVideo", OTHER_MODEL),
    "control_video": Unread(words("a control video"), "WanSoundImageToVideo", OTHER_MODEL),
    "pose_video_latent": Unread(words("a pose video"), "WanAnimateToVideo", OTHER_MODEL),
    "face_video_pixels": Unread(words("a face video"), "WanAnimateToVideo", OTHER_MODEL),
    "clip_vision_output_pose": Unread(words("CLIP vision of a pose video"), "WanAnimate2ToVideo", OTHER_MODEL),
    "cross_attn_pose": Unread(words("a prompt for a pose video"), "WanAnimate2ToVideo", OTHER_MODEL),
    "driving_mask_28ch": Unread(words("masks of a pose video"), "WanSCAILToVideo", OTHER_MODEL),
    "ref_mask_28ch": Unread(words("masks of reference images"), "WanSCAILToVideo", OTHER_MODEL),
    "clip_vision_output_ref": Unread(words("CLIP vision of a reference image"), "WanDancerVideo", OTHER_MODEL),
    "control": Unread(words("a ControlNet"), "Apply ControlNet", REMOVE),
    "gligen": Unread(words("text boxes"), "GLIGENTextBoxApply", REMOVE),
}
# read by core's samplers for every model, or read by no Wan model and of no weight: an encoder's by-products
FOR_ALL_MODELS = {
    "additional_models", "area", "attention_mask", "clip_end_percent", "clip_start_percent", "cross_attn", "default",
    "end_percent", "hooks", "mask", "mask_strength", "model_conds", "pooled_output", "set_area_to_bounds",
    "start_percent", "strength", "timestep_end", "timestep_start", "uuid",
}  # fmt: skip
# of those beside the clip what the host's own Wan model knows, by the names in its code: before 0.33 not all
READ_BY_CORE = set(BESIDE_THE_CLIP).intersection(comfy.model_base.WAN21.extra_conds.__code__.co_consts)
SIDES = {"positive": words("positive"), "negative": words("negative")}  # of a guider's conditions, for a person
READ_PATCHES = {"attn1_patch", "attn2_patch", "double_block"}


def check_conditioning(
    model: Any, conditioning: list[Any], name: str, size: tuple[int, int, int] | None = None
) -> None:
    """Refuse CONDITIONING that this model cannot read.

    Args:
        model: the BaseModel.
        conditioning: ComfyUI's list of [tensor, options].
        name: "positive" or "negative", for the message.
        size: latent frames, rows and columns of what is made, which the image of an image-to-video model has to have.

    Raises:
        InputError: wrong text width, something that the model doesn't read, or an image-to-video model without its
            image or with one of another size.
    """
    transformer = model.diffusion_model
    wanted = transformer.text_embedding[0].weight.shape[-1]
    for tensor, options in conditioning:
        width = tensor.shape[-1]
        if width != wanted:
            raise InputError(
                "The {name} conditioning is {width} wide, but this model takes {wanted}: load umt5_xxl with "
                'CLIPLoader, type "wan", and encode the prompt with it.',
                name=SIDES.get(name, name),
                width=width,
                wanted=wanted,
            )
        refuse_unread(model, options, name)
        if not takes_image(model):
            continue
        image = options.get("concat_latent_image")
        if image is None:
            raise InputError(
                "This is an image-to-video model ({channels} input channels), but the {name} conditioning "
                "carries no image: put WanImageToVideo between the text encoder and the sampler, or load a DF "
                "model.",
                channels=input_channels(model),
                name=SIDES.get(name, name),
            )
        if size is not None and tuple(image.shape[2:]) != size:
            raise InputError(
                "The image in the {name} conditioning was made for {shape}, but the latent is for {size}: give "
                "WanImageToVideo the width, height and length of the latent.",
                name=SIDES.get(name, name),
                shape=in_pixels(image.shape[2:], model_geometry(model)),
                size=in_pixels(size, model_geometry(model)),
            )


def refuse_unread(model: Any, options: Mapping[str, Any], name: str) -> None:
    """Refuse what one entry of a CONDITIONING holds and the model doesn't read; `Raises: InputError`.

    Args:
        model: the BaseModel.
        options: the second half of the entry, or one of a guider's conditions.
        name: "positive" or "negative", for the message.
    """
    for key, value in options.items():
        if value is None or key in FOR_ALL_MODELS or reads(model, key):
            continue
        row = UNREAD.get(key)
        if row is not None:
            raise InputError(
                "The {name} conditioning holds {what} ({key}, from {node} or a node like it), but this model "
                "doesn't read it: {instead}.",
                name=SIDES.get(name, name),
                what=row.what,
                key=key,
                node=row.node,
                instead=row.instead,
            )
        if next(tensors_within(value), None) is not None:
            raise InputError(
                "The {name} conditioning holds {key}, but this model doesn't read it: remove the node that adds "
                "it, or load the model that it is made for.",
                name=SIDES.get(name, name),
                key=key,
            )


def reads(model: Any, key: str) -> bool:
    """Say whether a Wan 2.1 BaseModel, ours or core's, reads a key of CONDITIONING."""
    if key in ("concat_latent_image", "concat_mask"):
        return takes_image(model)
    if key == "clip_vision_output":
        return getattr(model.diffusion_model, "img_emb", None) is not None
    return key in READ_BY_CORE and not takes_image(model)


def tensors_within(value: Any, depth: int = DEPTH) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested lists, dicts and objects."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth > 0 and not isinstance(value, torch.nn.Module):
        inner = value if isinstance(value, list | tuple) else value if isinstance(value, Mapping) else vars_of(value)
        for item in inner.values() if isinstance(inner, Mapping) else inner:
            yield from tensors_within(item, depth - 1)


def vars_of(value: Any) -> dict[str, Any]:
    """Return the attributes of an object that has any."""
    return getattr(value, "__dict__", {})


def refuse_beside_the_clip(conds: Mapping[str, Any], reason: Words) -> None:
    """Refuse latents that stand beside the whole clip at one noise level; `Raises: InputError`.

    Args:
        conds: a guider's conditions, or None, by name.
        reason: why that can't be, and what to do.
    """
    for name, conditions in conds.items():
        for condition in conditions or ():
            for key in BESIDE_THE_CLIP:
                if condition.get(key) is not None:
                    row = UNREAD[key]
                    raise InputError(
                        "The {name} conditioning holds {what} ({key}, from {node} or a node like it), which the model "
                        "sees beside the whole clip at one noise level, but {reason}.",
                        name=SIDES.get(name, name),
                        what=row.what,
                        key=key,
                        node=row.node,
                        reason=reason,
                    )


def refuse_block_patches(options: Mapping[str, Any], reason: Words) -> None:
    """Refuse patches that look at the whole clip and its one noise level; `Raises: InputError`.

    Args:
        options: a run's transformer_options.
        reason: why that can't be, and what to do.
    """
    if options.get("patches", {}).get("double_block"):
        raise InputError(
            "A node (WanUni3CControlnetApply or one like it) patches the transformer's blocks for the whole "
            "clip at one noise level, but {reason}.",
            reason=reason,
        )


def tell_of_unread_patches(options: Mapping[str, Any]) -> None:
    """Say in the log and on the node which patches no Wan model reads; with core's samplers they do nothing either."""
    replaced = options.get("patches_replace", {})
    names = {name for name, functions in options.get("patches", {}).items() if functions} - READ_PATCHES
    names |= {name for name, functions in replaced.items() if functions and name != "dit"}
    names |= {f"dit {key[0]}" for key in replaced.get("dit", {}) if key[0] != "double_block"}
    if names:
        line = words(
            "Wan models don't read these patches: {names}. The node that adds them has no effect.",
            names=joined(sorted(names)),
        )
        tell("patches", line, logging.WARNING)


def check_conditions(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """Check a guider's conditions before its models are loaded, whatever the sampler; an OUTER_SAMPLE wrapper."""
    guider = executor.class_obj
    refuse_unread_conditions(guider)
    tell_of_unread_patches(guider.model_options.get("transformer_options", {}))
    return executor(*args, **kwargs)


def refuse_unread_conditions(guider: Any) -> None:
    """Refuse what a guider's conditions hold and its model doesn't read; `Raises: InputError`."""
    for name, conditions in guider.conds.items():
        for condition in conditions or ():
            refuse_unread(guider.model_patcher.model, condition, name)


def check_every_run(patcher: Any) -> None:
    """Have every sampling run of a MODEL check its conditions, in core's KSampler too."""
    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    patcher.add_wrapper_with_key(kind, WRAPPER_KEY, check_conditions)
