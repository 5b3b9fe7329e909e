"""Batches keep each sample's parts together, whatever is selected or joined."""

import torch

from zoomldm.data.batch import Batch, GridGroup, SparseGridGroup, concatenate


def made_batch() -> Batch:
    rows = torch.arange(20, dtype=torch.float16).reshape(10, 2)
    small = SparseGridGroup(torch.tensor([2, 0]), rows[:3], torch.tensor([[[1]], [[2]]], dtype=torch.int32))
    cells = torch.tensor([[[0, 1], [2, 3]], [[3, 3], [3, 3]]], dtype=torch.int32)
    large = SparseGridGroup(torch.tensor([1, 3]), rows, cells)
    return Batch(
        sample_number=torch.arange(100, 104),
        rung=torch.tensor([0, 1, 0, 1]),
        keys=["a", "b", "c", "d"],
        latent=torch.arange(4.0).half().reshape(4, 1, 1, 1),
        grids=[small, large],
    )


def grid_of(batch: Batch, position: int) -> torch.Tensor:
    return next(g.values[g.index.tolist().index(position)] for g in batch.grids if position in g.index.tolist())


def test_sparse_grids_become_dense_rows_of_cells():
    batch = made_batch().to("cpu")
    assert all(isinstance(group, GridGroup) for group in batch.grids)
    assert grid_of(batch, 2).tolist() == [[[2.0, 3.0]]]
    assert grid_of(batch, 0).tolist() == [[[4.0, 5.0]]]
    assert grid_of(batch, 1).tolist() == [[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]]


def test_selection_keeps_every_samples_parts_together():
    batch = made_batch().to("cpu")
    for chosen in (torch.tensor([3, 0]), torch.tensor([1]), torch.tensor([2, 1, 0, 3])):
        part = batch.select(chosen)
        assert part.keys == [batch.keys[i] for i in chosen]
        for new, old in enumerate(chosen.tolist()):
            assert torch.equal(grid_of(part, new), grid_of(batch, old))
            assert part.sample_number[new] == batch.sample_number[old]
            assert torch.equal(part.latent[new], batch.latent[old])
        assert sorted(i for g in part.grids for i in g.index.tolist()) == list(range(len(chosen)))


def test_selecting_before_and_after_densifying_is_the_same():
    chosen = torch.tensor([3, 2])
    sparse, dense = made_batch().select(chosen).to("cpu"), made_batch().to("cpu").select(chosen)
    assert all(torch.equal(grid_of(sparse, i), grid_of(dense, i)) for i in range(2))


def test_joining_the_parts_of_a_batch_gives_the_batch():
    batch = made_batch().to("cpu")
    joined = concatenate([batch.select(torch.tensor([0, 1])), batch.select(torch.tensor([2, 3]))])
    assert joined.keys == batch.keys
    assert torch.equal(joined.sample_number, batch.sample_number)
    assert all(torch.equal(grid_of(joined, i), grid_of(batch, i)) for i in range(4))
    assert joined.image is None
