"""Slides to shards."""
