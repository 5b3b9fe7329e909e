"""Synthetic slides: from a root patch down the ladder, each level in agreement with the one above."""
