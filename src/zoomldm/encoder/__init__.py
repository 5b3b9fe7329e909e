"""Tile encoders: uint8 tiles in, one vector a tile out."""
