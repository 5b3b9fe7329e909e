"""Distances between sets of patches, the rows that give them meaning, claims, and the report."""
