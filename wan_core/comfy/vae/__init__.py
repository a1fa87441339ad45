"""From images to latents and back, streamed and tiled."""
