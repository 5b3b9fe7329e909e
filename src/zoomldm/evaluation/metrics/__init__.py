"""Figures of a row beside its distance: one class a file, one YAML each in ``conf/metrics/``."""
