"""ZoomLDM: multi-scale conditional latent diffusion for histopathology (paper: Yellapragada, Graikos et al.)."""

__version__ = "0.1.0"
