"""Many videos on many machines: `python -m farm LIST` has the ComfyUIs of a Ray cluster run a list of API prompts."""
