"""Where a level has nothing to draw: patches that lie on glass in the level above.

Legend: H W patches of the area, p their side in pixels of the level above (half a patch).
"""

from __future__ import annotations

import numpy as np
from einops import rearrange

from zoomldm.canvas.settings import Glass


def glass_patches(parent: np.ndarray, rows: int, columns: int, glass: Glass) -> np.ndarray:
    """Say which patches of an area are glass all over, bool (H, W), by the area a level above, uint8 (h, w, 3)."""
    values = parent.astype(np.int16)
    clear = (values.min(-1) >= glass.brightness) & (values.max(-1) - values.min(-1) <= glass.chroma)
    return rearrange(clear, "(H p) (W q) -> H W p q", H=rows, W=columns).all((2, 3))
