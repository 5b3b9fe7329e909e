"""Weight files: read without running code, recognised, converted and loaded whole (docs/weights.md)."""
