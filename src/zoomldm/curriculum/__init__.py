"""Which magnification the next sample comes from: curricula, one class a file, and their preview."""
