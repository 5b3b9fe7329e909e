"""Noise schedules, one class a file; ``conf/schedule`` has their options."""
