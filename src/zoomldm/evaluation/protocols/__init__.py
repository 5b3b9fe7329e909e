"""How many patches stand on either side of a comparison: one class a file, named in ``conf/evaluation/``."""
