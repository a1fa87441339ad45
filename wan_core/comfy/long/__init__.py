"""Long video as ComfyUI's nodes know it: settings, jobs, sources."""
