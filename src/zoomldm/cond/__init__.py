"""Conditioning: embedding grids and magnification to the tokens that the U-Net attends to, one class a way."""
