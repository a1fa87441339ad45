"""SkyReels-V2 in plain torch: model, checkpoints, forcing schedule, solvers and sampler, with no ComfyUI needed."""
