"""What was found in a checkpoint, and how it is said to a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..model.config import WanConfig
from ..words import Joined, Words, counted, joined, lines, words
from .formats import Stored
from .variants import describe_model


@dataclass(frozen=True)
class CheckpointInfo:
    """What was found in a checkpoint.

    Args:
        path: the path asked for.
        files: the files it consists of.
        layout: "original" or "diffusers" key names in the file.
        prefix: what stood before every key, e.g. "model.diffusion_model.".
        marker: the model named by a `model_type.*` key, or None.
        dtype: torch's name of the dtype most of the weights have, e.g. "bfloat16".
        quantization: the formats of its packed or scaled matrices, names in formats.FORMATS; "" where there are none.
        variant: best guess which model it is (a name in MODELS, or that of another known model), or None.
        metadata: the safetensors metadata.
        config: the architecture.
        variant_source: what the guess rests on: "marker", "name", "shape", or None.
        ignored: keys left out because no part of the model reads them.
        stored: layer -> how its weight is stored, for those that are packed or scaled.
        others: prefixes of other models in the same file.
        unpacked: what was unpacked while a model was made of it.
    """

    path: Path
    files: tuple[Path, ...]
    layout: str
    prefix: str
    marker: str | None
    dtype: str
    quantization: str
    variant: str | None
    metadata: dict[str, str]
    config: WanConfig
    variant_source: str | None = None
    ignored: tuple[str, ...] = field(default=())
    stored: Mapping[str, Stored] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    unpacked: Words | None = None

    @property
    def weights(self) -> Joined:
        """What the weights are, such as "bfloat16" or "int8 with a scale for each row"."""
        formats = {each.format.name: each.format.said for each in self.stored.values()}
        return joined(formats.values() if formats else [self.dtype])

    def describe(self) -> Joined:
        """Say in a few lines what was detected and which settings its authors recommend."""
        name, settings = describe_model(self.config, self.variant, self.variant_source)
        shown: list[Words] = [
            name,
            words(
                "{layers} layers x {width}, {heads} heads, {weights}, fps weights: {fps}, {layout} names, {files}",
                layers=self.config.num_layers,
                width=self.config.dim,
                heads=self.config.num_heads,
                weights=self.weights,
                fps=words("yes") if self.config.inject_sample_info else words("no"),
                layout=self.layout,
                files=counted(len(self.files), "files"),
            ),
        ]
        if settings is not None:
            shown.append(settings)
        if self.unpacked is not None:
            shown.append(self.unpacked)
        if self.others:
            others = joined(repr(prefix) for prefix in self.others)
            shown.append(
                words("weights under {prefix!r}; the file also has {others}", prefix=self.prefix, others=others)
            )
        if self.ignored:
            listed = joined([*self.ignored[:3], *["..."] * (len(self.ignored) > 3)])
            shown.append(words("{count} keys not used: {listed}", count=len(self.ignored), listed=listed))
        return lines(*shown)
