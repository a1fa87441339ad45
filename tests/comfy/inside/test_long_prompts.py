"""Prompts of a long video in the host's process: scripts, lists, seeds, and blends against a mixture made by hand."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import comfy.samplers
import pytest
import torch
from long_scene import conditioning, frames_of, inputs, make, prompts, settings

pytestmark = pytest.mark.usefixtures("output_folder")


def test_a_script_gives_every_segment_its_prompt_its_seed_and_its_blend(bridge: ModuleType, tiny_clip: Any) -> None:
    module = importlib.import_module("skyreels_v2.wan_core.comfy.long.inputs")
    chosen = settings(bridge, seed=5, forcing={"fps": 24}).planned()

    def read(text: str, blend: float = 0.0) -> Any:
        return module.prompts_of(None, module.PromptScript(tiny_clip, text, blend), chosen)

    plain = read("a red ball\na blue cube\na green star")
    assert len(plain.positives) == 3 and plain.conditions == (0, 1, 2) and plain.seeds == () and plain.blend == 0
    assert plain.positives[0][0][0].shape[-1] == 4096
    seeded = read("a red ball\n[seed 7] a blue cube\na green star", 0.5)
    assert seeded.seeds == (5, 7, 5) and seeded.blend == 3
    assert torch.equal(seeded.positives[1][0][0], plain.positives[1][0][0])
    assert read("a red ball", 0.5).blend == 0 and read("a\nb\nc", 0.01).blend == 1
    # nothing that older jobs were not found by
    assert plain.identity() == {"conditions": [0, 1, 2]}
    assert seeded.identity() == {"conditions": [0, 1, 2], "seeds": [5, 7, 5], "blend": 3}
    with pytest.raises(ValueError, match="2 prompts, one per line, but the video has 3 segments"):
        read("a red ball\na blue cube")
    with pytest.raises(ValueError, match="Neither positive nor script is connected"):
        module.prompts_of(None, None, chosen)


def test_a_seed_in_the_script_changes_its_segment_and_those_behind(bridge: ModuleType, model: Any, vae: Any) -> None:
    texts = [conditioning(n) for n in (1, 3)]
    chosen = settings(bridge, codec="ffv1")
    plain, other = (
        make(bridge, inputs(bridge, model, vae, prompts=prompts(texts, conditions=(0, 1, 1), seeds=seeds)), chosen)
        for seeds in ((), (0, 7, 7))
    )
    before, after = frames_of(plain.path), frames_of(other.path)
    assert (before[:17] == after[:17]).all() and "seeds" in str(other.text)
    assert (before[25:] != after[25:]).any(axis=(1, 2, 3)).all()


def test_a_blend_mixes_both_predictions_frame_by_frame(
    bridge: ModuleType, model: Any, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brute force: the guider's own predictions for each prompt alone, mixed by hand."""
    texts, plan = [conditioning(n) for n in (1, 3)], settings(bridge).planned().plan
    rollout = importlib.import_module("skyreels_v2.wan_core.long.rollout")
    made = prompts(texts, conditions=(0, 1, 1), blend=2)
    job = rollout.Rollout(plan, (1, 16, 4, 4), rollout.seeded((1, 1, 1)), {}, made.conditions, blend=made.blend)
    carry = rollout.Carry(
        torch.zeros(1, 16, plan.overlap, 4, 4), torch.zeros(1, 16, 0, 4, 4), *[torch.zeros(1, 16)] * 2
    )
    task = rollout.make_task(job, plan.segments[1], carry)
    assert task.noise.shape[2] == 6 and sorted(task.weights) == [0, 1]
    torch.testing.assert_close(task.weights[1][2:], torch.tensor([1 / 3, 2 / 3, 1, 1]))
    module = importlib.import_module("skyreels_v2.wan_core.comfy.sampling.sampler")
    seen: list[torch.Tensor] = []

    def first_prediction(positive: list[Any], cfg: float) -> torch.Tensor:
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, conditioning(2))
        guider.set_cfg(cfg)
        seen.clear()
        options = module.ForcingOptions(solver="euler")
        with torch.inference_mode():
            guider.sample(
                task.noise, torch.zeros_like(task.noise), module.DiffusionForcingSampler(options),
                torch.tensor([1.0, 0.5, 0.0]), callback=lambda step, x0, x, total: seen.append(x0.clone()), seed=1,
            )  # fmt: skip
        return seen[0]  # of a clip with no known frames, in its own order

    old, new = (first_prediction(text, 1.0) for text in texts)
    weight = task.weights[1].view(1, 1, -1, 1, 1)
    assert (old - new).abs().max() > 1e-3
    mixed = first_prediction(made.positive(task), 1.0)
    torch.testing.assert_close(mixed, old + weight * (new - old), rtol=1e-4, atol=1e-5)


def test_a_blended_video_differs_only_from_the_change_on(bridge: ModuleType, model: Any, vae: Any) -> None:
    texts, chosen = [conditioning(n) for n in (1, 3)], settings(bridge, codec="ffv1")
    cut, blended = (
        make(bridge, inputs(bridge, model, vae, prompts=prompts(texts, conditions=(0, 1, 1), blend=blend)), chosen)
        for blend in (0, 2)
    )
    assert (frames_of(cut.path)[:17] == frames_of(blended.path)[:17]).all()
    assert (frames_of(cut.path)[25:] != frames_of(blended.path)[25:]).any()
    assert "Prompt changes: 1, each over 2 latent frames" in str(blended.text)
    assert "Prompt changes" not in str(cut.text)


def test_prompts_from_inputs_of_their_own_are_lines_of_a_script(pack_nodes: dict[str, Any], tiny_clip: Any) -> None:
    node = pack_nodes["SkyReelsV2PromptList"]
    given = {"prompt_1": "0s-4s: a cat\non a sill", "prompt_2": "4s-: [seed 7] a dog"}
    script, _negative = node.execute(tiny_clip, given, 0.5).args
    assert tuple(script) == (tiny_clip, "0s-4s: a cat on a sill\n4s-: [seed 7] a dog", 0.5)
    same, negative = pack_nodes["SkyReelsV2PromptScript"].execute(tiny_clip, script.text, 0.5, "blurry").args
    assert same == script
    text = pack_nodes["SkyReelsV2TextEncode"].execute(tiny_clip, "a cat", "blurry").args
    assert torch.equal(negative[0][0], text[1][0][0]) and not torch.equal(negative[0][0], text[0][0][0])
    with pytest.raises(ValueError, match="The input prompt_2 is empty"):
        node.execute(tiny_clip, {"prompt_1": "a cat", "prompt_2": " \n", "prompt_3": "a dog"})
