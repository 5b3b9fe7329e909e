"""The rows of an evaluation: one class a file, one YAML each in ``conf/rows/``."""
