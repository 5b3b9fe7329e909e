"""See docs/rehearsal.md."""
