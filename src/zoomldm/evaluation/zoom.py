"""How well a zooming EDM zooms: the tokens that it draws for the quarters of real patches, against the real ones.

Errors are mean squares of standardised tokens, so that 2 is what two unrelated draws of a channel have, and 0 is the
same tokens. Legend: b batch, n tokens, d their width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoomldm.data.batch import Batch
from zoomldm.data.manifest import Manifest
from zoomldm.ladder import Rung
from zoomldm.model.zooming import ZoomingEDM, quarters
from zoomldm.model.zoomldm import ZoomLDM
from zoomldm.sampling.conditions import ShardPatches
from zoomldm.sampling.settings import Sampling

KINDS = ("child", "wrong quadrant", "plain", "another patch's")


@dataclass(frozen=True, kw_only=True)
class ZoomErrors:
    """What was found.

    Attributes:
        by_rung: label of the child -> kind (`KINDS`) -> mean squared error of its tokens.
        drift: label of the root -> errors after 1, 2, … levels, each level drawn out of the drawn one above it.
        num: patches a magnification.
    """

    by_rung: dict[str, dict[str, float]]
    drift: dict[str, list[float]]
    num: int


class ZoomJudge:
    """Draw the tokens of quarters of held-out patches and compare them with those of the real quarters.

    Args:
        zooming: how tokens are drawn out of a parent; plain: without one.
    """

    def __init__(
        self, model: ZoomLDM, edm: ZoomingEDM, *, zooming: Sampling, plain: Sampling, seed: int, batch_size: int
    ) -> None:
        self.model, self.edm, self.seed, self.batch_size = model.eval(), edm.eval(), seed, batch_size
        self.device = edm.token_mean.device
        self.zooming, self.plain = zooming, plain

    @torch.inference_mode()
    def judge(self, manifest: Manifest, *, split: str, num: int) -> ZoomErrors:
        """Judge every magnification above the finest that has at least two patches, by ``num`` of them at most."""
        patches, by_rung, drift, most = ShardPatches(manifest), {}, {}, 0
        for parent in manifest.ladder.rungs[1:]:
            count = min(num, patches.count(split, parent.magnification))
            if count < 2:
                continue
            options = {"split": split, "magnification": parent.magnification, "seed": self.seed, "columns": ("grid",)}
            read = patches.batches(**options, num=count, batch_size=self.batch_size)
            batches = [batch.to(self.device) for batch in read]
            child = manifest.ladder[parent.index - 1]
            by_rung[child.label] = _mean([self._errors(batch, parent, child) for batch in batches])
            drift[parent.label] = self._drift(batches, parent, manifest.ladder.rungs)
            most = max(most, count)
        return ZoomErrors(by_rung=by_rung, drift=drift, num=most)

    def _errors(self, batch: Batch, parent: Rung, child: Rung) -> dict[str, Tensor]:
        quadrant, numbers = self._quadrants(batch, 0), batch.sample_number
        tokens = self.model.tokens
        own, real = tokens(batch.grids, batch.rung), tokens(quarters(batch.grids, quadrant), batch.rung - 1)
        drawn = self._children(own, quadrant, child, numbers)
        wrong = self._children(own, (quadrant + 1 + numbers % 3) % 4, child, numbers)
        options = self.plain.options(self.seed, child.index)
        plain = self.edm.sample(torch.full_like(numbers, child.index), numbers, **options)
        found = (drawn, wrong, plain, real.roll(1, 0))
        return {kind: self._distance(tokens, real) for kind, tokens in zip(KINDS, found)}

    def _drift(self, batches: Sequence[Batch], root: Rung, rungs: Sequence[Rung]) -> list[float]:
        """Return the mean errors of levels below real roots, each drawn out of the drawn one above."""
        levels: list[list[Tensor]] = [[] for _ in range(root.index)]
        for batch in batches:
            grids, tokens = batch.grids, self.model.tokens(batch.grids, batch.rung)
            for depth in range(1, root.index + 1):
                quadrant, rung = self._quadrants(batch, depth), rungs[root.index - depth]
                grids = quarters(grids, quadrant)
                tokens = self._children(tokens, quadrant, rung, batch.sample_number + depth * 10**9)
                levels[depth - 1].append(self._distance(tokens, self.model.tokens(grids, batch.rung - depth)))
        return [float(torch.cat(errors).mean()) for errors in levels]

    def _quadrants(self, batch: Batch, depth: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1000 + depth * 100 + int(batch.rung[0]))
        return torch.randint(0, 4, (len(batch),), generator=generator).to(self.device)

    def _children(self, parents: Tensor, quadrant: Tensor, rung: Rung, numbers: Tensor) -> Tensor:
        options = self.zooming.options(self.seed, rung.index)
        return self.edm.sample_children(parents, quadrant, torch.full_like(numbers, rung.index), numbers, **options)

    def _distance(self, tokens: Tensor, real: Tensor) -> Tensor:
        return (self.edm.standardise(tokens) - self.edm.standardise(real)).square().mean((1, 2))


def table_of(errors: ZoomErrors) -> Iterator[str]:
    """Yield the lines of a table for people."""
    yield f"{'':16}" + "".join(f"{label:>11}" for label in errors.by_rung)
    for kind in KINDS:
        yield f"{kind:16}" + "".join(f"{found[kind]:>11.3f}" for found in errors.by_rung.values())
    for label, levels in errors.drift.items():
        yield f"from {label:>9}: after 1, 2, … levels " + " ".join(f"{error:.3f}" for error in levels)


def _mean(parts: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    return {kind: float(torch.cat([part[kind] for part in parts]).mean()) for kind in KINDS}
