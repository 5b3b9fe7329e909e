"""What preparation finds in the slides of one data set beside what it finds in those of another, slide by slide.

A figure of a slide says little by itself: the range over the other set's slides is the measure. Of vectors the figure
is a distance: of a slide's patches to all patches of the real slides, and of each real slide to the other real ones.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from data_prep.report.findings import EMBEDDINGS, FoundSlide, standardised
from zoomldm.data.manifest import Manifest
from zoomldm.errors import DataError
from zoomldm.evaluation.distances import SAMPLES_PER_DIMENSION, frechet

WHOLE = ""
"""In place of a magnification: a figure of the slide as a whole."""
EMBEDDING_DISTANCE = "Fréchet distance of the grids' means"
Found = Mapping[str, FoundSlide]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A figure, by slide of either set.

    Attributes:
        label: magnification, or ``WHOLE``.
    """

    name: str
    label: str
    synthetic: dict[str, float]
    real: dict[str, float]

    @property
    def outside(self) -> int:
        """Return how many synthetic slides lie outside the range of the real ones."""
        low, high = min(self.real.values()), max(self.real.values())
        return sum(not low <= value <= high for value in self.synthetic.values())


def check_alike(synthetic: Manifest, real: Manifest) -> None:
    """Refuse data sets whose patches or grids are not of one kind.

    Raises:
        DataError: says what differs.
    """
    if synthetic.ladder != real.ladder:
        raise DataError(
            f"{synthetic.root} has {synthetic.ladder}, {real.root} {real.ladder}: prepare both with one data="
        )
    encoders = [(m.encoder.name, m.encoder.dim, m.encoder.weights_sha256, m.encoder.fit) for m in (synthetic, real)]
    if encoders[0] != encoders[1]:
        said = " and ".join(f"{name} (weights {weights})" for name, _, weights, _ in encoders)
        raise DataError(
            f"{synthetic.root} and {real.root}: their grids are by encoder {said}; prepare both with one encoder= and "
            "the same weights"
        )


def findings_of(synthetic: Found, real: Found, manifest: Manifest) -> list[Finding]:
    """Return every figure that both sets have: of whole slides, then by magnification, highest first.

    Args:
        manifest: of the real set, which says how embeddings are standardised.
    """
    names = dict.fromkeys(name for slide in (*synthetic.values(), *real.values()) for name in slide.facts)
    findings = [
        Finding(name=name, label=WHOLE, synthetic=_facts(synthetic, name), real=_facts(real, name)) for name in names
    ]
    for label in manifest.ladder.labels:
        found = [slide.by_rung.get(label, {}) for slide in (*synthetic.values(), *real.values())]
        findings += [
            Finding(name=name, label=label, synthetic=_of(synthetic, label, name), real=_of(real, label, name))
            for name in dict.fromkeys(name for one in found for name in one)
        ]
        findings += _distances(synthetic, real, label, manifest)
    return [one for one in findings if one.synthetic and one.real]


def _facts(found: Found, name: str) -> dict[str, float]:
    values = {slide: one.facts.get(name, math.nan) for slide, one in found.items()}
    return {slide: value for slide, value in values.items() if not math.isnan(value)}


def _of(found: Found, label: str, name: str) -> dict[str, float]:
    return {slide: one.by_rung[label][name] for slide, one in found.items() if name in one.by_rung.get(label, {})}


def _distances(synthetic: Found, real: Found, label: str, manifest: Manifest) -> Iterator[Finding]:
    """Yield the distances of a magnification that have patches enough, as many of each slide: their bias is one."""
    kinds = dict.fromkeys(kind for one in real.values() for kind in one.vectors.get(label, {}))
    for kind in kinds:
        of = [_vectors(found, label, kind, manifest) for found in (synthetic, real)]
        least = SAMPLES_PER_DIMENSION * next(iter(of[1].values())).shape[1]
        of = [{name: one for name, one in vectors.items() if len(one) >= least} for vectors in of]
        if not of[0] or len(of[1]) < 2:
            continue
        num = min(len(one) for vectors in of for one in vectors.values())
        ours, theirs = ({name: one[:num] for name, one in vectors.items()} for vectors in of)
        everyone = np.concatenate(list(theirs.values()))
        yield Finding(
            name=EMBEDDING_DISTANCE if kind == EMBEDDINGS else kind,
            label=label,
            synthetic={name: frechet(one, everyone) for name, one in ours.items()},
            real={name: frechet(one, _without(theirs, name)) for name, one in theirs.items()},
        )


def _vectors(found: Found, label: str, kind: str, manifest: Manifest) -> dict[str, np.ndarray]:
    vectors = {name: one.vectors[label][kind] for name, one in found.items() if label in one.vectors}
    return {name: standardised(one, manifest) for name, one in vectors.items()} if kind == EMBEDDINGS else vectors


def _without(vectors: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.concatenate([one for other, one in vectors.items() if other != name])
