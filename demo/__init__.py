"""The demo: the pack's real sampler on a tiny model, with no download and no ComfyUI."""
