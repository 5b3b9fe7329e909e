"""What would have no effect is refused, and so is an argument that an option's class doesn't take."""

import re

import pytest

from tests.helpers.toy_data import make_toy_data
from zoomldm import composing
from zoomldm.commands.effect import check_effect, check_options
from zoomldm.errors import ConfigError


def refused(entry, *words, is_sweep=False):
    (cfg,) = composing.compose_jobs(entry, words)
    check_effect(entry, cfg, words, is_sweep=is_sweep)


NUMBERS = ["num_per_magnification=8", "evaluation.num_per_magnification=9"]
SINGLE = ["training=single", "training.magnification=5"]


@pytest.mark.parametrize(
    ("entry", "words", "message"),
    [
        ("train", ["model=autoencoder_tiny", "cond=none"], r"cond=none: model=autoencoder_tiny has no condition"),
        ("train", ["model=autoencoder_tiny", "features=stats"], r"features=stats: .* is not evaluated"),
        ("train", ["rows=[halves]"], r"rows=\[halves\]: nothing is evaluated after this training"),
        ("train", ["evaluation.num_in_sweep=8"], r"evaluation\.num_in_sweep=8: nothing is evaluated"),
        ("train", [*SINGLE, "curriculum=tempered"], r"curriculum=tempered: training=single"),
        ("train", ["tissue=faint"], r"tissue=faint: data_prep/prepare\.py alone"),
        ("train", ["data.stride=0.5"], r"data\.stride=0\.5: data_prep/prepare\.py alone"),
        ("train", ["model=autoencoder_tiny", "encoder=hipt"], r"encoder=hipt: .* has no condition"),
        ("train", ["model=autoencoder_tiny", "solver=ddpm"], r"solver=ddpm: .* diffuses nothing"),
        ("train", ["model=autoencoder_tiny", "schedule=linear"], r"schedule=linear: .* diffuses nothing"),
        ("train", ["model=autoencoder_tiny", "evaluation=paper"], r"evaluation=paper: .* is not evaluated"),
        ("train", ["autoencoder.weights=a", "autoencoder.run=b"], r"autoencoder\.run=b: .*weights is taken"),
        ("train", ["cond=none", "sampling.guidance_scale=2"], r"guidance_scale=2: cond=none leaves nothing to guide"),
        ("train", ["cond=none", "sampling.guidance_interval=[0,1]"], r"guidance_interval=\[0,1\]: cond=none leaves"),
        ("train", ["cond=none", "diffusion.dropout_p=0.2"], r"dropout_p=0\.2: cond=none leaves nothing to drop"),
        ("train", ["cond=pool", "model.tokens.widths=[8]"], r"model\.tokens\.widths=\[8\]: cond=pool has no use"),
        ("train", ["cond.position_embedding=true", "model.tokens.position_embedding=true"], r"^model\.tokens\.pos"),
        ("train", ["model=edm_tiny", "cond.projection=all"], r"cond\.projection=all: the conditioner is that of"),
        ("train", ["model=edm_tiny", "train.sample_every=5"], r"train\.sample_every=5: .* draws no pictures"),
        ("train", ["paths.remote_gb=5"], r"paths\.remote_gb=5: paths\.remote is not set"),
        (
            "sample",
            ["source=oracle", "sampling.edm_guidance_scale=1"],
            r"source=oracle draws no conditions, so it has no",
        ),
        (
            "evaluate",
            ["rows=[oracle]", "sampling.edm_guidance_scale=1"],
            r"edm_guidance_scale=1: no row of rows= has gen",
        ),
        ("sample", ["source=generated", "edm_weights=x"], r"edm_weights=x: it belongs to weights="),
        (
            "sample",
            ["source=generated", "weights=w", "data=demo"],
            r"data=demo: source=generated of a published",
        ),
        ("sample", ["fabric.num_workers=2"], r"fabric\.num_workers=2: only training"),
        ("evaluate", ["rows=[halves,oracle]", "edm=x"], r"edm=x: no row of rows= has generated conditions"),
        ("evaluate", ["rows=[halves]", "solver=ddpm"], r"solver=ddpm: no row of rows= is synthetic"),
        ("evaluate", ["rows=[halves]", "sampling.steps=5"], r"sampling\.steps=5: no row of rows= is synthetic"),
        ("evaluate", ["evaluation=paper", "evaluation.num_in_sweep=8"], r"num_in_sweep=8: this is no sweep's"),
        ("evaluate", ["evaluation=paper", *NUMBERS], r"^evaluation\.num_per"),
        ("evaluate", ["metrics=[kid]", "features=inception", "encoder=hipt"], r"encoder=hipt: nothing that was chosen"),
        ("evaluate", ["paths.remote=there"], r"paths\.remote=there: only training"),
        ("demo", ["mpp=0.5"], r"mpp=0\.5: the demo's own slides"),
        ("view", ["allow_code=[mine]"], r"allow_code=\[mine\]: no class is made"),
        ("doctor", ["allow_code=[mine]"], r"allow_code=\[mine\]: no class is made"),
        ("prepare", ["features=stats"], r"features=stats: preparation judges nothing"),
        ("prepare", ["add=grid", "part=1/2"], r"part=1/2: add=grid packs nothing"),
        ("prepare", ["part=1/2", "drop_images=true"], r"drop_images=true: part= packs nothing"),
        ("prepare", ["plan=true", "add=grid"], r"add=grid: plan=true"),
        ("prepare", ["executor=serial", "workers=2"], r"workers=2: executor=serial"),
        ("prepare", ["slides=s", "data.demo_slides.seed=1"], r"data\.demo_slides\.seed=1: slides=s"),
        ("latents", ["encoder=hipt"], r"encoder=hipt: latents are made"),
        ("latents", ["autoencoder.weights=b", "autoencoder.run=a"], r"autoencoder\.run=a: .*weights is taken"),
        ("latents", ["data.stride=0.5"], r"data\.stride=0\.5: data_prep/prepare\.py alone"),
        ("verify", ["encoder=hipt"], r"encoder=hipt: repair=true alone"),
        ("verify", ["repair=true", "features=stats"], r"features=stats: verification"),
        ("sample", ["encoder=stats"], r"encoder=stats: .*no effect"),
        ("sample", ["edm=x"], r"edm=x: source=oracle draws no conditions"),
        ("sample", ["source=generated", "reader=[flat]"], r"reader=\[flat\]: source=generated embeds nothing"),
    ],
)
def test_what_has_no_effect_is_refused(entry, words, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        refused(entry, f"paths.root={tmp_path}", *words)


@pytest.mark.parametrize(
    ("words", "is_sweep"),
    [
        (["rows=[halves]"], True),
        (["rows=[halves]", "evaluation.after_training=true"], False),
        ([*SINGLE, "training.match=samples", "curriculum=tempered"], False),
        (["model=autoencoder_tiny", "curriculum=tempered", "data.name=mine"], False),
        (["data.name=mine", "data.root=there", "evaluation.num_per_magnification=8", "encoder=hipt"], False),
    ],
)
def test_what_has_an_effect_is_not(words, is_sweep):
    refused("train", *words, is_sweep=is_sweep)


@pytest.mark.parametrize(
    ("entry", "word", "message"),
    [
        ("prepare", "variants=[5]", r"data_prep/latents\.py takes it"),
        ("prepare", "repair=true", r"data_prep/verify\.py takes it"),
        ("prepare", "autoencoder.run=a", r"data_prep/latents\.py and src/train\.py take it"),
        ("verify", "add=grid", r"data_prep/prepare\.py takes it"),
        (
            "latents",
            "reader=flat",
            r"data_prep/prepare\.py and data_prep/verify\.py and src/sample\.py and src/slide\.py and src/app\.py take "
            "it",
        ),
        ("evaluate", "n=16", r"src/sample\.py and src/slide\.py take it"),
        ("sample", "cond=film", r"src/train\.py takes it"),
    ],
)
def test_what_another_command_takes_is_refused_with_its_name(entry, word, message):
    with pytest.raises(ConfigError, match=rf"^{re.escape(word)}: has no effect in .*{entry}\.py; {message}$"):
        composing.compose_jobs(entry, [word])


@pytest.mark.parametrize("entry", ["train", "evaluate", "sample"])
def test_a_key_of_preparation_must_be_what_the_data_set_was_prepared_with(entry, tmp_path):
    made = make_toy_data(tmp_path)
    made.config.update(stride={"20": 1, "default": 0.5}, image_format="png")
    made.save(tmp_path)
    words = ["data=demo", f"data.root={tmp_path}"]
    refused(entry, *words, "data.image_format=png")
    with pytest.raises(ConfigError, match=r'data\.image_format=jpeg: .* was prepared with "png"; prepare it again'):
        refused(entry, *words, "data.image_format=jpeg")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+cond.depth=3"], r"cond\.depth: FiLMConditioner takes no such argument"),
        (["model=autoencoder_vq_tiny", "+model.loss.comitment=1"], r"model\.loss\.comitment: .*'commitment'"),
        (["+metrics.kid.folds=3"], r"metrics\.kid\.folds"),
        (["cond._target_=mine.Cond"], r"allow_code=\[mine\]"),
    ],
)
def test_arguments_that_a_class_does_not_take_are_refused_before_a_job_begins(words, message):
    (cfg,) = composing.compose_jobs("train", words)
    with pytest.raises(ConfigError, match=message):
        check_options("train", cfg)


@pytest.mark.parametrize("entry", ["train", "evaluate", "sample", "export", "demo"])
def test_every_entry_names_classes_that_take_what_they_are_given(entry):
    (cfg,) = composing.compose_jobs(entry, [])
    check_options(entry, cfg)
