"""A run leaves as a folder for users of diffusers: the same images come back, and no name of anyone leaves with it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel, VQModel

from tests.helpers.options import make_schedule, make_solver
from tests.helpers.toy_data import make_toy_data
from tests.helpers.toy_evaluation import make_rows
from zoomldm import composing
from zoomldm.commands import export as command
from zoomldm.commands.check import stage_in
from zoomldm.commands.job import plain
from zoomldm.config import section_of
from zoomldm.data.batch import GridGroup
from zoomldm.diffusion.guidance import guided
from zoomldm.diffusion.prediction.base import Prediction
from zoomldm.diffusion.solvers.dpmpp import DPMSolverPP
from zoomldm.errors import ConfigError, UserError
from zoomldm.evaluation.errors import Measure
from zoomldm.evaluation.result import Cell, DescriptorInfo, Evaluation
from zoomldm.export.anonymous import require_anonymous
from zoomldm.export.folder import write_folder
from zoomldm.export.parts import PatchAutoencoder, prediction_of
from zoomldm.export.pipeline import ZoomLDMPipeline
from zoomldm.runs.checkpoint import CheckpointInfo, Checkpoints
from zoomldm.runs.run import Run
from zoomldm.sampling.generator import to_images
from zoomldm.stages.trained import TrainedModels, load_trained

PATIENT, SLIDE = "TCGA-E2-A1B4", "TCGA-E2-A1B4-01Z-00-DX1.0f3a"
LADDER = "data.ladder.num_rungs=3"


def compose(name: str, root: Path, *words: str):
    fixed = ["tracking=none"] if name == "train" else []
    (cfg,) = composing.compose_jobs(name, [f"paths.root={root}", *fixed, *words])
    return cfg


def save(root: Path, cfg, kind: str, module, extra_state: dict) -> None:
    config = {key: plain(cfg[key]) for key in cfg if key != "hydra"}
    run = Run.open(root / "runs", cfg.run_name, config, kind=kind)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    info = CheckpointInfo(kind=kind, step=10, extra_state=extra_state)
    Checkpoints(run.folder / "checkpoints").save(info, {}, state)


def load(root: Path) -> TrainedModels:
    return load_trained(root / "runs", "zoom", wants_edm=True)


def lively(module):
    """Give zero-initialised layers values, so that nothing is compared with nothing."""
    for parameter in module.parameters():
        if not parameter.detach().any():
            torch.nn.init.normal_(parameter, std=0.1)
    return module.eval()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A data set whose slide and patient carry a real-looking name, and runs of the three models."""
    root = tmp_path_factory.mktemp("export")
    manifest = make_toy_data(root / "data" / "demo", train=(9, 5, 3), test=(2, 2, 2), patch_px=32, dim=24, latent_px=8)
    manifest.patients["train"].append(PATIENT)
    manifest.slides.append({"slide": SLIDE})
    manifest.save(root / "data" / "demo")
    torch.manual_seed(0)
    cfg = compose("train", root, "model=autoencoder_vq_tiny", "run_name=ae", LADDER)
    save(root, cfg, "autoencoder", lively(stage_in(cfg).untrained()), {})
    small = ["autoencoder.run=ae", "unet.model_channels=32", "model.latent_channels=3", LADDER]
    cfg = compose("train", root, "model=zoomldm_tiny", "run_name=zoom", *small)
    model = lively(stage_in(cfg).untrained(num_rungs=3, grid_dim=24, latent_scale=0.7))
    save(root, cfg, "zoomldm", model, model.extra_state())
    cfg = compose(
        "train",
        root,
        "model=edm_tiny",
        "run_name=edm",
        "zoomldm.run=zoom",
        "model.width=32",
        "model.latent_channels=3",
        LADDER,
    )
    sizes = {"num_tokens": model.conditioner.num_tokens, "token_dim": model.conditioner.token_dim, "num_rungs": 3}
    edm = lively(stage_in(cfg).untrained(**sizes))
    evaluation().save(root / "runs" / "zoom" / "evaluation" / "fd_texture.json")
    evaluation(step=5, notes=["old"]).save(root / "runs" / "zoom" / "evaluation" / "fd_stats.json")
    edm.fit_statistics([torch.randn(4, sizes["num_tokens"], sizes["token_dim"]) * 3 + 1])
    save(root, cfg, "edm", edm, sizes)
    return root


def evaluation(**change) -> Evaluation:
    cell = Cell(num=9, num_reference=9, judged_by="frechet", distance=Measure(12.34, 0.5, (12.0, 12.6)))
    judge = DescriptorInfo(name="texture", distance_name="fd_texture", dim=20, fingerprint="f", conditions_model=False)
    rows = [row.info() for row in make_rows("oracle")]
    facts = {"run_name": "zoom", "step": 10, "row_infos": rows, "magnifications": ["20x", "10x"], "reference_ids": {}}
    cells = {"fd_texture": {"oracle": {"20x": cell, "10x": cell}}}
    data = {"name": PATIENT, "counts": {}}
    return Evaluation(**{**facts, "descriptors": [judge], "cells": cells, "data": data, "notes": [PATIENT], **change})


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return command.run(compose("export", root, "run=zoom", "title=A small model"))


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> ZoomLDMPipeline:
    pipeline = ZoomLDMPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_folder_has_every_part(folder: Path) -> None:
    for part in ("unet", "vqvae", "summarizer", "edm"):
        assert (folder / part / "config.json").is_file()
        assert list((folder / part).glob("*.safetensors"))
    assert not list(folder.rglob("*.bin"))
    index = json.loads((folder / "model_index.json").read_text())
    assert index["encoder"]["name"]
    assert index["encoder"]["dim"] == 24
    assert index["ladder"]["num_rungs"] == 3
    assert "edm.token_mean" in _keys(next((folder / "edm").glob("*.safetensors")))


def _keys(path: Path) -> list[str]:
    with path.open("rb") as stream:
        return list(json.loads(stream.read(int.from_bytes(stream.read(8), "little"))))


def test_parts_load_with_diffusers_alone(folder: Path, root: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    source = load(root)
    for key, value in source.model.module.unet.state_dict().items():
        assert torch.equal(value, unet.state_dict()[key])
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    torch.testing.assert_close(scheduler.alphas_cumprod, source.model.module.schedule.alphas_cumprod)
    if json.loads((folder / "vqvae" / "config.json").read_text())["_class_name"] == "VQModel":
        assert VQModel.from_pretrained(folder / "vqvae").config.scaling_factor == 0.7


def test_given_embeddings_make_the_images_of_the_run(pipeline: ZoomLDMPipeline, root: Path) -> None:
    source = load(root)
    model = source.model.module
    grids = torch.randn(2, 4, 4, 24).half()
    images = pipeline(5, grids, 2.0, 6, torch.Generator().manual_seed(3), output_type="np").images
    with torch.no_grad():
        tokens = model.tokens([GridGroup(torch.arange(2), grids)], torch.tensor([2, 2]))
        predict = guided(model.predict, tokens, model.conditioner.null_tokens(2), 2.0)
        noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
        latents = (
            make_solver().solve(predict, noise, model.schedule, num_steps=6, prediction=model.prediction)
            / model.latent_scale
        )
        pixels = source.autoencoder.module.decode(latents)
    expected = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(1, -1).numpy()
    assert images.shape == (2, 32, 32, 3)
    assert images.std() > 1
    off = np.abs(images.astype(int) - expected).max((1, 2, 3))
    assert (np.abs(images.astype(int) - expected) <= 1).mean() > 0.99, off


def test_a_run_is_exported_with_its_own_solver_and_schedule(root: Path, tmp_path: Path) -> None:
    trained = load(root)
    sections = {
        "solver": section_of("solver", "dpmpp"),
        "schedule": section_of("schedule", "linear") | {"beta_end": 0.01},
    }
    model = replace(trained.model, config={**trained.config, **sections})
    trained.model.module.schedule = make_schedule("linear", beta_end=0.01)
    write_folder(command.source_of(replace(trained, model=model, edm=None)), tmp_path / "x", title="x")
    pipeline = ZoomLDMPipeline.from_pretrained(tmp_path / "x")
    pipeline.set_progress_bar_config(disable=True)
    grids = torch.randn(2, 4, 4, 24)
    images = pipeline(5, grids, 2.0, 4, torch.Generator().manual_seed(3), output_type="np").images
    with torch.inference_mode():
        tokens = model.module.tokens([GridGroup(torch.arange(2), grids)], torch.tensor([2, 2]))
        noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
        options = {"solver": DPMSolverPP(), "num_steps": 4, "guidance_scale": 2.0}
        latents = model.module.denoise(noise, tokens, **options)
        expected = to_images(trained.autoencoder.module.decode(latents))
    assert np.abs(images.astype(int) - expected).max() <= 1
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "x" / "scheduler")
    torch.testing.assert_close(scheduler.alphas_cumprod, trained.model.module.schedule.alphas_cumprod)


def test_a_run_is_exported_with_its_guidance_by_magnification(root: Path, tmp_path: Path) -> None:
    trained = load(root)
    by = {"steps": 4, "guidance_scale": {"default": 1.0, "5": 3.0}, "guidance_interval": [0, 0.6]}
    parts = {part: getattr(trained, part) for part in ("model", "edm")}
    parts = {part: replace(one, config={**one.config, "sampling": by}) for part, one in parts.items()}
    write_folder(command.source_of(replace(trained, **parts)), tmp_path / "x", title="x")
    pipeline = ZoomLDMPipeline.from_pretrained(tmp_path / "x")
    pipeline.set_progress_bar_config(disable=True)
    for magnification, scale in ((5, 3.0), (10, 1.0)):
        images = pipeline(magnification, generator=torch.Generator().manual_seed(3), output_type="np").images
        noise = torch.Generator().manual_seed(3)
        rung = trained.manifest.ladder.rung_of(magnification).index
        options = {"solver": make_solver(), "num_steps": 4, "guidance_scale": scale, "guidance_interval": (0, 0.6)}
        with torch.inference_mode():
            tokens = trained.edm.module
            drawn = torch.randn(1, tokens.num_tokens, tokens.token_dim, generator=noise)
            drawn = tokens.denoise(drawn, torch.tensor([rung]), **options)
            latents = trained.model.module.denoise(torch.randn(1, 3, 8, 8, generator=noise), drawn, **options)
            expected = to_images(trained.autoencoder.module.decode(latents))
        assert np.abs(images.astype(int) - expected).max() <= 1


def test_autoencoder_that_diffusers_cannot_hold_comes_back(root: Path, tmp_path: Path) -> None:
    model = plain(compose("train", root, "model=autoencoder_vq_tiny").model)
    exported = lively(PatchAutoencoder(model={k: v for k, v in model.items() if k != "loss"}, scaling_factor=0.5))
    exported.save_pretrained(tmp_path)
    again = PatchAutoencoder.from_pretrained(tmp_path)
    latents = torch.randn(1, 3, 8, 8)
    assert again.config.scaling_factor == 0.5
    with torch.no_grad():
        assert torch.equal(again.decode(latents).sample, exported.autoencoder.decode(latents))


def test_own_conditions_have_the_statistics_of_the_tokens(pipeline: ZoomLDMPipeline, root: Path) -> None:
    edm = load(root).edm.module
    assert torch.equal(pipeline.edm.edm.token_mean, edm.token_mean)
    assert pipeline.edm.config.num_steps == 20
    rung = torch.tensor([1])
    drawn = pipeline.edm(rung, torch.Generator().manual_seed(1))
    noise = torch.randn(1, edm.num_tokens, edm.token_dim, generator=torch.Generator().manual_seed(1))
    assert pipeline.edm.config.prediction["name"] == "x0"
    torch.testing.assert_close(drawn, edm.denoise(noise, rung, solver=make_solver(), num_steps=20, guidance_scale=1.0))


def test_a_generator_decides_the_images(pipeline: ZoomLDMPipeline) -> None:
    def draw(seed: int, **options):
        generator = torch.Generator().manual_seed(seed)
        return pipeline("10x", generator=generator, num_inference_steps=3, output_type="np", **options).images

    assert np.array_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1))
    assert draw(0, num_images=3).shape == (3, 32, 32, 3)
    image = pipeline(20, num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
    assert image.size == (32, 32)


def test_what_cannot_be_drawn_is_said(pipeline: ZoomLDMPipeline, root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not on this ladder"):
        pipeline(7)
    with pytest.raises(UserError, match=r"embeddings of shape \(2, 2, 24\) at 5x: expected \(4, 4, 24\)"):
        pipeline(5, np.zeros((2, 2, 24), np.float16))
    without = command.run(compose("export", root, "run=zoom", "edm=none", f"folder={tmp_path / 'x'}"))
    bare = ZoomLDMPipeline.from_pretrained(without)
    assert bare.edm is None
    with pytest.raises(UserError, match="holds no embedding diffusion model"):
        bare(5)
    assert len(bare(5, np.zeros((4, 4, 24), np.float16), num_inference_steps=1).images) == 1


def test_card_has_counts_hashes_and_licences(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert "# A small model" in card
    assert "| 20x | 0.5 | 1×1 | 9 | 2 |" in card
    assert "fd_texture:" in card
    assert card.count("12.3") == 2
    assert "fd_stats" not in card  # of an earlier checkpoint
    assert "trained from scratch" in card
    for path in folder.rglob("*.safetensors"):
        assert re.search(rf"`{path.relative_to(folder)}`: sha256 `[0-9a-f]{{64}}`", card)


def test_no_name_leaves(folder: Path, root: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for name in (PATIENT, SLIDE, str(root), str(Path.home()), str(Path.cwd())):
                assert name.encode() not in content, f"{name} in {path}"


def test_a_planted_name_stops_the_export(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "x"
    for title in (f"Model of {PATIENT}", f"See {SLIDE}", f"From {root}/data"):
        with pytest.raises(UserError, match=r"README\.md would hold"):
            command.run(compose("export", root, "run=zoom", f"title='{title}'", f"folder={target}"))
        assert list(tmp_path.iterdir()) == []


def test_names_in_weight_files_are_found(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"from": f"/data/{PATIENT}.svs"})
    with pytest.raises(UserError, match=r"x\.safetensors"):
        require_anonymous(tmp_path, {PATIENT})
    require_anonymous(tmp_path, {"another-name"})


def test_an_export_is_not_overwritten_unasked(folder: Path, root: Path) -> None:
    with pytest.raises(ConfigError, match="fresh=true"):
        command.run(compose("export", root, "run=zoom"))


def test_what_an_export_predicts_is_read_without_keys_that_came_later() -> None:
    assert prediction_of(None, "eps").make(Prediction).diffusers_name == "epsilon"
    older = {key: value for key, value in section_of("prediction", "v").items() if key != "snr_floor"}
    assert prediction_of(older, "eps").make(Prediction).snr_floor is None
