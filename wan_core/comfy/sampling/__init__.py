"""Sampling through ComfyUI's guiders: noise levels by frame, caches, memory."""
