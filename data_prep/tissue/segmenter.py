"""The interface of tissue segmenters. A new one is a class and a YAML in conf/tissue."""

from abc import ABC, abstractmethod

import numpy as np


class Segmenter(ABC):
    """Find the tissue of a slide; built once a process, with its YAML's arguments."""

    @abstractmethod
    def segment(self, thumbnail: np.ndarray, um_per_px: float) -> tuple[np.ndarray, np.ndarray]:
        """Return where tissue is and where pen, (h, w) bool each; pen is not tissue.

        Args:
            thumbnail: (h, w, 3) uint8, sRGB; what lies beyond the slide is white.
            um_per_px: micrometres a pixel, 8 in the paper's data, 4 in the demo's.
        """
