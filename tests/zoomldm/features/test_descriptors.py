"""Descriptors are chosen by name, say what their distance is called, and refuse what cannot be."""

import io
import pickle

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tests.helpers.toy_evaluation import toy_patches
from zoomldm import cli, composing
from zoomldm.config import CONF, Option, section_of
from zoomldm.encoder.stats import FEATURE_NAMES, StatsEncoder
from zoomldm.errors import ConfigError, UserError, WeightsError
from zoomldm.features.base import Descriptor
from zoomldm.features.encoders import EncoderDescriptor
from zoomldm.features.stats import FIXED_STATISTICS


def build(name, *, encoder=None, **changed):
    section = {key: value for key, value in section_of("features", name).items() if key != "also"} | changed
    return Option("features", section).make(Descriptor, encoder=encoder, device="cpu")


def test_only_inception_is_called_fid():
    assert build("texture").distance_name == "fd_texture"
    assert build("stats").distance_name == "fd_stats"


def test_an_argument_without_effect_is_refused():
    with pytest.raises(ConfigError, match="TextureDescriptor takes no such argument"):
        build("texture", weights="file.pth")


@pytest.mark.parametrize("name", sorted({path.stem for path in (CONF / "encoder").glob("*.yaml")} - {"random"}))
def test_any_encoder_of_sense_may_judge(name, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(cli.PROJECT_ROOT))
    (cfg,) = composing.compose_jobs("train", [f"features={name}"])
    features = OmegaConf.to_container(cfg.features, resolve=True)
    assert features["name"] == name
    if name != "stats":
        assert features["encoder"]["name"] == name
        with pytest.raises(WeightsError, match="no such file"):
            Option("features", features).make(Descriptor, encoder=StatsEncoder(), device="cpu")


def test_texture_judges_and_stats_is_shown_as_well():
    (cfg,) = composing.compose_jobs("train", ["features=texture"])
    assert {name: one["name"] for name, one in cfg.features.also.items()} == {"stats": "stats"}
    assert OmegaConf.to_container(cfg.features) == section_of("features", "texture")


def test_stats_takes_the_encoder_of_the_data_set():
    encoder = StatsEncoder().fit(np.full(24, 2.0), np.full(24, 3.0))
    descriptor = build("stats", encoder=encoder)
    patches = toy_patches(3)
    assert np.array_equal(descriptor(patches), encoder(patches))
    assert descriptor.fingerprint != build("stats").fingerprint


def test_fixed_statistics_cover_every_number_of_stats():
    assert set(FIXED_STATISTICS) == set(FEATURE_NAMES)
    assert all(spread > 0 for _, spread in FIXED_STATISTICS.values())


def test_another_encoder_judges_under_its_own_name():
    encoder = StatsEncoder()
    encoder.name = "hipt"
    assert EncoderDescriptor(encoder).distance_name == "fd_hipt"


def test_wrong_input_is_a_programmers_error():
    with pytest.raises(ValueError, match="uint8"):
        build("texture")(np.zeros((1, 32, 32, 3), np.float32))


def test_vectors_that_are_not_finite_are_reported():
    class Broken(Descriptor):
        name, distance_name, dim, fingerprint = "broken", "fd_broken", 2, "0"

        def describe(self, images):
            return np.full((len(images), 2), np.nan)

    with pytest.raises(UserError, match="not finite"):
        Broken()(toy_patches(1))


def test_missing_inception_weights_say_where_and_what_else(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    with pytest.raises(WeightsError) as caught:
        build("inception", weights=tmp_path / "weights-inception-2015-12-05-6726825d.pth")
    message = str(caught.value)
    for part in (str(tmp_path), "weights-inception-2015-12-05-6726825d.pth", "torch-fidelity", "texture", "stats"):
        assert part in message


def test_weights_that_would_run_code_are_not_unpickled(tmp_path):
    path = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(WeightsError, match="plain weights"):
        build("inception", weights=path)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    torch.save({"layer.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(WeightsError, match="not the InceptionV3"):
        build("inception", weights=tmp_path)


def test_inception_from_a_safe_state_dict(tmp_path, monkeypatch):
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    with monkeypatch.context() as patch:  # their constructor wants weights; a random network has none yet
        patch.setattr(theirs, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        state = theirs.FeatureExtractorInceptionV3("random", ["2048"]).state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError, match=r"no FIDs.*features\.called"):
        build("inception", weights=path)
    descriptor = build("inception", weights=path, batch_size=2, called="of random values")
    assert descriptor.distance_name == "of random values"
    assert descriptor(toy_patches(3)).shape == (3, 2048)
