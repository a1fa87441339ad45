"""How fast and how lean: side by side with a floor, diffusers and ComfyUI's own Wan. `python dev.py bench`."""
