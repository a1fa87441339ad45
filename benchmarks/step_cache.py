"""The step cache on the embedded model: how many model calls it leaves out, and how near the videos stay.

Every clip is made with all its calls, then with the step cache at several thresholds, and with as few steps instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from demo.captions import LANGUAGES
from demo.generate import Settings, clip_noise
from demo.measure import psnr
from demo.models import Models
from demo.score import prompts_of
from demo.vae import decode
from wan_core.forcing import forcing_schedule
from wan_core.sampler import Row, sample
from wan_core.sampling import flow_sigmas, timesteps_of
from wan_core.step_cache import Moment, Report, StepCache

LATENT_FRAMES = 15
FIRST_SEED = 7_000_000  # of prompts and noise; the method was chosen on others
THRESHOLDS = (0.02, 0.05, 0.1, 0.2)
MODES: dict[str, dict[str, Any]] = {
    "sync": {},
    "async (ar_step 5, block 5)": {"ar_step": 5, "causal_block_size": 5},
    "block-causal async (ar_step 5, block 5)": {"ar_step": 5, "causal_block_size": 5, "causal_attention": True},
}
