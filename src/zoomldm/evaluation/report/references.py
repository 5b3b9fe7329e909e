"""Table 1 of the paper, printed beside our figures: another data set, another metric, a reference and no target."""

from dataclasses import dataclass

MAGNIFICATIONS = ("20x", "10x", "5x", "2.5x", "1.25x", "0.625x", "0.3125x", "0.15625x")


@dataclass(frozen=True)
class ReferenceRow:
    """One row of FIDs, 20x to 0.15625x; None where the source gives none."""

    title: str
    source: str
    fid: tuple[float | None, ...]

    def at(self, label: str) -> float | None:
        """Return the FID at a magnification (``"5x"``), None where there is none."""
        return self.fid[MAGNIFICATIONS.index(label)] if label in MAGNIFICATIONS else None


PAPER = "ZoomLDM, Table 1: FID of 10,000 patches of 256 px, TCGA-BRCA, 1,136 slides"
TABLE_1 = (
    ReferenceRow("ZoomLDM, oracle conditions", PAPER, (9.29, 9.71, 9.16, 11.67, 18.17, 21.08, 23.92, 22.50)),
    ReferenceRow(
        "state of the art; the last three are standalone models of one magnification",
        PAPER,
        (6.98, 7.64, 9.74, None, None, 58.98, 66.28, 106.14),
    ),
    ReferenceRow("ZoomLDM, generated conditions", PAPER, (14.96, 14.93, 17.08, 20.09, 24.89, 34.72, 30.49, 21.10)),
)
LATER = (
    ReferenceRow(
        "ZoomLDM as published at CVPR 2025",
        "quoted at second hand",
        (6.77, 7.60, 7.98, 10.73, 8.74, 7.99, 8.34, 13.42),
    ),
)
NUM_TRAINING_PATCHES = ("12M", "3M", "750k", "186k", "57k", "20k", "7k", "2.5k")
