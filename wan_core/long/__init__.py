"""Video of any length: where finished latents come from, and the journal that keeps them."""
