"""The trainings run, learn, and go on after a stop as if there had been none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from demo.pool import make_pool
from demo.text import TextEncoder
from demo.train_dit import STAGES, train_dit
from demo.train_text import train_text
from demo.train_vae import fresh_vae, train_decoder, train_encoder
from demo.training import Plan
from wan_core.model.wan_model import WanModel

HOURS = 1e6  # so many minutes that the learning rate does not fall


def train_tiny_dit(plan: Plan, first_step: int = 0) -> WanModel:
    torch.manual_seed(0)
    return train_dit(plan, TextEncoder().eval(), make_pool(4, 1), make_pool(2, 2), compiled=False, first=first_step)


TRAININGS: dict[str, Callable[[Plan], nn.Module]] = {
    "text": train_text,
    "encoder": lambda plan: train_encoder(plan, fresh_vae(0)),
    "decoder": lambda plan: train_decoder(plan, fresh_vae(0)),
    "dit": train_tiny_dit,
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    plan = Plan(name, tmp_path / "whole", HOURS, 1e-3, max_steps=2)
    whole = TRAININGS[name](plan).state_dict()
    parts = replace(plan, folder=tmp_path / "parts", resume=True)
    early = TRAININGS[name](replace(parts, max_steps=1)).state_dict()
    late = TRAININGS[name](parts).state_dict()
    for key, value in whole.items():
        torch.testing.assert_close(late[key], value, atol=1e-5, rtol=1e-4)
    assert any(not torch.equal(early[key], value) for key, value in whole.items())


def test_every_stage_of_the_transformers_recipe_runs(tmp_path: Path) -> None:
    for number, stage in enumerate(STAGES):
        plan = Plan("dit", tmp_path / str(number), HOURS, 1e-3, max_steps=1)
        made = train_tiny_dit(plan, stage.first_step)
        assert all(parameter.isfinite().all() for parameter in made.parameters())
