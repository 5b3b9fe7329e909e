import pytest
import torch

from zoomldm.errors import UserError
from zoomldm.rehearsal import room, scratch_weights
from zoomldm.rehearsal.scratch_weights import FILES, ScratchFile, gather_weights, missing_files
from zoomldm.weights.layout import find_part
from zoomldm.weights.layout_encoders import HIPT
from zoomldm.weights.layout_unet import UNET
from zoomldm.weights.layout_vq import VQ

SMALL = (ScratchFile("a.ckpt", {"first.weight": (4, 3), "first.bias": (4,)}), ScratchFile("b.ckpt", {"x": (2, 2)}))


@pytest.mark.parametrize(("number", "family"), [(0, VQ), (1, UNET), (2, HIPT)])
def test_the_layouts_are_the_published_ones(number, family):
    found = [find_part(family, variant, FILES[number].shapes) for variant in family.variants]
    part = next(one for one in found if one is not None)
    assert not part.missing
    assert not part.reshaped


def test_sizes_are_those_of_the_papers_models():
    assert [round(one.size / 4e6, 1) for one in FILES[:3]] == [55.3, 401.4, 21.7]


def test_the_users_files_are_linked_and_others_drawn(tmp_path):
    own, scratch, said = tmp_path / "own", tmp_path / "scratch", []
    own.mkdir()
    torch.save({"x": torch.ones(2, 2)}, own / "b.ckpt")
    assert gather_weights(own, scratch, files=SMALL, say=said.append) == ["a.ckpt"]
    assert torch.load(scratch / "b.ckpt")["x"].sum() == 4
    assert torch.load(scratch / "a.ckpt")["first.bias"].shape == (4,)
    assert "RANDOM VALUES" in said[0]
    assert "yours" in said[1]


def test_a_disk_too_small_is_said_with_the_computed_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: type("", (), {"free": 10**9})())
    with pytest.raises(UserError, match=r"GB needed(.|\n)*two checkpoints(.|\n)*folder="):
        room.check_disk(tmp_path / "weights", tmp_path / "scratch")
    with pytest.raises(UserError, match=r"zooming EDM") as few:
        room.check_disk(tmp_path / "weights", tmp_path / "scratch", ["prepare", "zooming EDM"])
    assert "two checkpoints" not in str(few.value)
    assert "a run of a sweep" not in str(few.value)
    assert len(missing_files(tmp_path, tmp_path)) == len(scratch_weights.FILES)
