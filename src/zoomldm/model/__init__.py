"""The networks: autoencoder, U-Net, ZoomLDM and the embedding diffusion model."""
