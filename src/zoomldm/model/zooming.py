"""The zooming EDM: one transformer that draws a patch's tokens from its magnification alone, or from the patch above.

A patch of one magnification is four of the next: its embedding grid is cut into quadrants, and a quadrant is its
child's grid. So every sample of the shards is a training pair of parent and child, through the frozen summarizer.
Legend: b batch, n condition tokens (laid out s x s, row by row), d their width, e width of the transformer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from zoomldm.cond.base import Conditioner
from zoomldm.data.batch import Batch, GridGroup
from zoomldm.diffusion.guidance import Interval, drop_condition, guided, timesteps_within
from zoomldm.diffusion.noise import (
    keyed_dropout,
    keyed_noise_of_any_level,
    keyed_normal,
    keyed_timesteps,
    keyed_uniform,
)
from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.schedules.base import NoiseSchedule
from zoomldm.diffusion.solvers.base import Solver
from zoomldm.errors import ConfigError
from zoomldm.label.base import KnownLabels, LabelTable
from zoomldm.model.edm import EDM, EDMTrainable

Form = Literal["aligned", "context", "both"]
NO_QUADRANT = 4


@dataclass(frozen=True)
class Parents:
    """The patches above.

    Attributes:
        tokens: standardised, `b n d`.
        quadrant: which quarter of its parent each child is, int64 (b,): 0 top left, 1 top right, 2 and 3 below.
        known: bool (b,); where False the two above mean nothing.
    """

    tokens: Tensor
    quadrant: Tensor
    known: Tensor


class ZoomingEDM(EDM):
    """An EDM that may be told the tokens of the patch above and the place in it.

    Args:
        form: how the parent's tokens come in. ``aligned``: the quarter of them that lies over the child, each over
            four of the child's, is added to the child's inputs. ``context``: all of them are further tokens to attend
            to. ``both``.

    Raises:
        ConfigError: tokens that are not laid out in a square of even side.
    """

    def __init__(
        self,
        *,
        num_rungs: int,
        num_tokens: int,
        token_dim: int,
        width: int,
        depth: int,
        heads: int,
        schedule: NoiseSchedule,
        prediction: Prediction,
        form: Form,
        label: KnownLabels | None = None,
    ) -> None:
        sizes = {"num_rungs": num_rungs, "num_tokens": num_tokens, "token_dim": token_dim}
        network = {"width": width, "depth": depth, "heads": heads, "label": label}
        super().__init__(**sizes, **network, schedule=schedule, prediction=prediction)
        self.side = math.isqrt(num_tokens)
        if self.side**2 != num_tokens or self.side % 2:
            raise ConfigError(
                f"a zooming EDM needs tokens in a square of even side, and this conditioner makes {num_tokens}; "
                "use a ZoomLDM run with cond=film, cnn or vit, or the plain model=edm"
            )
        if form not in ("aligned", "context", "both"):
            raise ConfigError(f"model.network.form={form!r}: expected aligned, context or both")
        self.form = form
        self.quadrant = nn.Embedding(NO_QUADRANT + 1, width)
        self.no_parent = nn.Parameter(torch.zeros(num_tokens, width))
        self.parent_over = nn.Linear(token_dim, width) if form != "context" else None
        self.parent_beside = nn.Linear(token_dim, width) if form != "aligned" else None
        self.parent_position = nn.Parameter(0.02 * torch.randn(num_tokens, width)) if form != "aligned" else None

    def predict(
        self, x: Tensor, t: Tensor, rung: Tensor, parents: Parents | None = None, label: Tensor | None = None
    ) -> Tensor:
        """Give what `prediction` names, of noisy tokens `b n d`; without ``parents`` or ``label`` no sample has one."""
        told = self._told(len(x), x) if parents is None else parents
        quadrant = self.quadrant(torch.where(told.known, told.quadrant, NO_QUADRANT))
        context = [self._with_label(torch.stack([self.magnification(rung), self._timestep(t), quadrant], dim=1), label)]
        inputs = self.input(x) + self.position
        if self.parent_over is not None:
            over = self.parent_over(over_child(told.tokens, told.quadrant).to(x.dtype))
            inputs = inputs + drop_condition(over, self.no_parent, ~told.known)
        if self.parent_beside is not None:
            beside = self.parent_beside(told.tokens.to(x.dtype)) + self.parent_position
            context.append(drop_condition(beside, self.no_parent, ~told.known))
        return self._transform(torch.cat(context, dim=1), inputs)

    def _told(self, num: int, like: Tensor) -> Parents:
        """Return what is known of the parents of ``num`` samples: nothing."""
        none = torch.zeros(num, dtype=torch.int64, device=like.device)
        return Parents(like.new_zeros(num, self.num_tokens, self.token_dim), none, none.bool())

    @torch.no_grad()
    def sample_children(
        self,
        parent_tokens: Tensor,
        quadrant: Tensor,
        rung: Tensor,
        sample_numbers: Tensor,
        *,
        seed: int,
        solver: Solver,
        num_steps: int,
        guidance_scale: float,
        guidance_interval: Interval | None = None,
    ) -> Tensor:
        """Draw the tokens `b n d` of children, as the conditioner would give them.

        Guidance is away from what the model says without magnification and parent.

        Args:
            parent_tokens: as the conditioner gives them, `b n d`; quadrant: int64 (b,), see `Parents`.
            rung: of the children, (b,); sample_numbers: key all noise, with the seed.
        """
        standard = self.standardise(parent_tokens)

        def predict(x: Tensor, t: Tensor, told: Tensor) -> Tensor:
            times = len(x) // len(rung)
            parents = Parents(standard.repeat(times, 1, 1), quadrant.repeat(times), told)
            return self.predict(x, t, torch.where(told, rung.repeat(times), self.null_rung), parents)

        told = torch.ones_like(rung, dtype=torch.bool)
        x_T, noise = self.keyed_noise(seed, sample_numbers)
        within = timesteps_within(guidance_interval, self.schedule.num_timesteps)
        predict_guided = guided(predict, told, ~told, guidance_scale, within=within)
        return self.follow(predict_guided, x_T, solver=solver, num_steps=num_steps, noise=noise)


class ZoomingEDMTrainable(EDMTrainable):
    """Train a zooming EDM: a part of the samples as themselves, the others each as the parent of one of its quarters.

    Validation is of the samples as themselves, so that its losses are those of the plain EDM.

    Args:
        alone_probability: chance that a sample is itself what is learnt; a sample of the finest rung always is.
        parent_noise: the parent's standardised tokens get noise whose deviation is drawn up to this, since a parent
            that was drawn is a little wrong.
    """

    edm: ZoomingEDM

    def __init__(
        self,
        edm: ZoomingEDM,
        conditioner: Conditioner,
        *,
        drop_probability: float,
        alone_probability: float,
        parent_noise: float,
        labels: LabelTable | None = None,
    ) -> None:
        super().__init__(edm, conditioner, drop_probability=drop_probability, labels=labels)
        self.alone_probability, self.parent_noise = alone_probability, parent_noise

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        if not self.training:
            return super().forward(batch, seed)
        numbers, own = batch.sample_number, self.edm.standardise(self.tokens(batch))
        x0, rung, parents = self._pairs(batch, own, seed)
        noise = keyed_normal(seed, numbers, x0.shape[1:])
        t = keyed_timesteps(seed, numbers, self.edm.schedule.num_timesteps)
        dropped = keyed_dropout(seed, numbers, self.drop_probability)
        rung = drop_condition(rung, torch.full_like(rung, self.edm.null_rung), dropped)
        label = self._told(batch, seed, dropped, children=parents.known)
        parents = Parents(parents.tokens, parents.quadrant, parents.known & ~dropped)
        said = self.edm.predict(self.edm.schedule.add_noise(x0, noise, t), t, rung, parents, **label)
        loss = self.edm.prediction.loss(self.edm.schedule, said, x0, noise, t)
        return {"loss_per_sample": loss, "child_loss": _mean_where(loss.detach(), parents.known)}

    def _pairs(self, batch: Batch, own: Tensor, seed: int) -> tuple[Tensor, Tensor, Parents]:
        """Return what each sample teaches: standardised tokens `b n d`, their rung (b,), and their parents."""
        numbers = batch.sample_number
        alone = keyed_dropout(seed, numbers, self.alone_probability, stream="alone") | (batch.rung == 0)
        quadrant = (4 * keyed_uniform(seed, numbers, stream="quadrant")).long()
        x0, rung = own.clone(), torch.where(alone, batch.rung, batch.rung - 1)
        above = torch.where(~alone)[0]
        if len(above):
            x0[above] = self.edm.standardise(self.child_tokens(batch.select(above), quadrant[above]))
        streams = {"level": "level of the parent's noise", "stream": "the parent's noise"}
        blur = keyed_noise_of_any_level(seed, numbers, own.shape[1:], largest=self.parent_noise, **streams)
        return x0, rung, Parents(own + blur, quadrant, ~alone)

    @torch.no_grad()
    def child_tokens(self, batch: Batch, quadrant: Tensor) -> Tensor:
        """Give the tokens `b n d` of one quarter of each sample (none of the finest rung), by ``quadrant`` (b,)."""
        return self.conditioner(quarters(batch.grids, quadrant), batch.rung - 1)


def quarters(grids: Sequence[GridGroup], quadrant: Tensor) -> list[GridGroup]:
    """Cut from each grid of side S the quarter of side S / 2 that its sample's quadrant names, int64 (b,).

    Raises:
        ValueError: a grid that has no quarters.
    """
    cut = []
    for group in (group.dense() for group in grids):
        if group.side % 2:
            raise ValueError(f"a grid of side {group.side} has no quarters")
        parts = rearrange(group.values, "g (v h) (u w) d -> g (v u) h w d", v=2, u=2)
        chosen = quadrant[group.index]
        cut.append(GridGroup(group.index, parts[torch.arange(len(chosen), device=chosen.device), chosen]))
    return cut


def over_child(tokens: Tensor, quadrant: Tensor) -> Tensor:
    """Give, for each token of a child, the token of its parent that lies over it: `b n d` of parents to `b n d`."""
    side = math.isqrt(tokens.shape[1])
    parts = rearrange(tokens, "b (v h u w) d -> b (v u) h w d", v=2, u=2, h=side // 2, w=side // 2)
    chosen = parts[torch.arange(len(parts), device=parts.device), quadrant]
    return repeat(chosen, "b h w d -> b (h v w u) d", v=2, u=2)


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Give the mean of those values that are chosen; 0 where none is."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)
