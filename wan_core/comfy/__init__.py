"""The one bridge to ComfyUI: model class, loader, per-frame noise in the guider, sampler object, VAE. Holds no math."""
