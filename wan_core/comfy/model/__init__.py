"""The transformer as ComfyUI's MODEL, and the checks of what a node is given."""
