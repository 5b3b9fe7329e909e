"""The real slide that lies beside some checkouts, for tests that are skipped where it does not."""

from pathlib import Path

import pytest

REAL_SLIDE = Path(__file__).resolve().parents[3] / "shared" / "slides" / "CMU-1-Small-Region.svs"
needs_real_slide = pytest.mark.skipif(not REAL_SLIDE.is_file(), reason="the real slide is not beside the checkout")
