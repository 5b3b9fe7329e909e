"""What the latent space costs."""

from collections.abc import Iterator

import numpy as np

from zoomldm.evaluation.rows.base import Row
from zoomldm.evaluation.rung_data import RungData
from zoomldm.sampling.generator import images_of


class Reconstructions(Row):
    """Real patches through the autoencoder and back."""

    title = "autoencoder"
    meaning = "real patches through the autoencoder and back: what the latent space costs"
    colour = "#5a9a76"
    is_paired = True

    def images(self, data: RungData) -> Iterator[np.ndarray]:
        for batch in data.real_batches(columns=("image",)):
            yield data.bench.generator.reconstruct(images_of(batch))
