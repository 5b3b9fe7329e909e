"""How the slides of a data set were read, by what lies beside its shards: so that a place is read in the same way."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_prep.magnitudes import regions_of
from data_prep.settings import SlideSettings
from data_prep.slides.scale import GIVEN, SPARE
from data_prep.slides.table import SlideSpec, patient_of
from data_prep.tissue.mask import TissueSettings
from data_prep.work.folder import read_settings
from data_prep.work.stale import is_file_of
from data_prep.work.store import SlideStore
from zoomldm.config import Option
from zoomldm.data.manifest import Manifest
from zoomldm.encoder.base import Encoder
from zoomldm.errors import DataError


def settings_of(
    manifest: Manifest, *, encoder: Option, readers: Sequence[Option], allow: Sequence[str] = ()
) -> SlideSettings:
    """Return the settings that a data set's slides were prepared with.

    Args:
        encoder: the option that made its grids.
        readers: ways to open a slide, which give the same pixels.
        allow: packages whose classes the data set may name.

    Raises:
        DataError: another encoder made them, or nothing says how tissue was found.
    """
    manifest.check_encoder(encoder.name)
    config, noted = manifest.config, read_settings(Path(manifest.root or ""))
    tissue: Mapping[str, Any] | None = noted.get("tissue") or config.get("tissue")
    if not tissue or "preset" in tissue:
        raise DataError(f"{manifest.root}: nothing there says how its slides were read; prepare it again")
    ladder = manifest.ladder
    return SlideSettings(
        ladder=ladder,
        encoder=encoder.given(tile_px=ladder.patch_px, tile_mpp=ladder.base_mpp),
        readers=tuple(readers),
        tissue=TissueSettings.from_dict(tissue, tuple(allow)),
        regions=regions_of(config, ladder),
        image_format=manifest.image_format,
        reference={},
        area_test_fraction=0.0,
        encode_background=bool(config["encode_background"]),
        mpp=None,
        icc=bool(noted.get("icc", True)),
        cache=None,
        seed=0,
    )


def spec_of(manifest: Manifest, path: Path, *, mpp: float | None) -> SlideSpec:
    """Return a slide's line of the table: of one that was prepared what its line said, if the file is the same.

    Args:
        mpp: its scale, instead of what the file or that line says.
    """
    spec = SlideSpec(path=path, name=path.stem, patient=patient_of(path.stem), mpp=mpp)
    state = SlideStore(Path(manifest.root or ""), spec.name).done()
    if state is None or not is_file_of(state, path):
        return spec
    told, is_given = state.told or {}, state.scale.source in (GIVEN, SPARE)
    return replace(
        spec,
        patient=state.patient,
        mpp=state.scale.mpp_level0 if mpp is None and is_given else mpp,
        tissue=told.get("tissue"),
        icc=told.get("icc"),
    )


def encoder_of(manifest: Manifest, option: Option) -> Encoder:
    """Build the encoder that made a data set's grids, on a GPU where there is one; its rows are not standardised yet.

    Raises:
        DataError: its weights are others. UserError: they are missing.
    """
    encoder = option.make(Encoder, statistics=None)
    if encoder.weights_sha256 != manifest.encoder.weights_sha256:
        raise DataError(
            f"{manifest.root}: its grids were made with weights {str(manifest.encoder.weights_sha256)[:12]} of encoder "
            f"{encoder.name}, those at hand are {str(encoder.weights_sha256)[:12]}; put the others in their place"
        )
    if encoder.weights_sha256 is None:
        return encoder
    import torch

    return encoder.to("cuda") if torch.cuda.is_available() else encoder
