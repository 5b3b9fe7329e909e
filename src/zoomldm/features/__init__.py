"""Descriptors of patches for distances: ``inception`` (FID), ``texture`` and ``stats`` (no weights), any encoder."""
