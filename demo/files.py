"""Where the embedded models are. No third package is imported here, so that ComfyUI's nodes can ask as well."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent / "weights"
TEXT_FILE = "text_encoder.safetensors"
VAE_FILE = "vae.safetensors"
DIT_FILE = "skyreels_v2_demo_df.safetensors"
