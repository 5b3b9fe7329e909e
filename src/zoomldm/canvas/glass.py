"""Where a level has nothing to draw: patches that lie on glass in the level above.

Legend: H W patches of the area, p their side in pixels of the level above (half a patch).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from einops import rearrange


@dataclass(frozen=True)
class Glass:
    """What counts as glass; a model of tissue has never seen a patch of it alone.

    Attributes:
        brightness: least grey level (0 to 255) of each pixel above; chroma: largest difference between its channels.
    """

    brightness: float
    chroma: float

    def patches(self, parent: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """Say which patches of an area are glass all over, bool (H, W), by the area a level above, uint8 (h, w, 3)."""
        values = parent.astype(np.int16)
        clear = (values.min(-1) >= self.brightness) & (values.max(-1) - values.min(-1) <= self.chroma)
        return rearrange(clear, "(H p) (W q) -> H W p q", H=rows, W=columns).all((2, 3))
