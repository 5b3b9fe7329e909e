"""``inception``: torch-fidelity's InceptionV3, the network of the FID, from a weight file that was read safely."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoomldm.errors import WeightsError
from zoomldm.features.base import Descriptor
from zoomldm.files import sha256_of

# torch-fidelity's file and pytorch-fid's copy of it; the suffix is the start of the file's SHA-256.
FILE_NAMES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
SHA256_PREFIX = "6726825d"
LAYER = "2048"
FID = "FID"


class InceptionDescriptor(Descriptor):
    """Describe patches by the 2048 pooled activations of InceptionV3; the Fréchet distance is then the FID.

    Args:
        weights: the weight file, or the folder that holds it; torch's hub cache is looked in as well.
        device: where the network runs.
        batch_size: patches a forward pass.
        called: another name for the distance; a file of other values than the published one is taken under it alone.

    Raises:
        WeightsError: the file is missing, unreadable or another network's; or not the published one, and called FID.
    """

    name = "inception"
    dim = 2048

    def __init__(self, weights: str | os.PathLike | None, *, device: str = "cpu", batch_size: int, called: str) -> None:
        self.path, self.distance_name = find_weights(weights), called
        sha256 = sha256_of(self.path)
        self.fingerprint = f"inception-{sha256[:12]}"
        self.device, self.batch_size = device, batch_size
        self.network = load_network(self.path).to(device)
        if not sha256.startswith(SHA256_PREFIX):
            _refuse_as_fid(self.path, sha256, called)

    @classmethod
    def check_files(cls, arguments: Mapping[str, Any]) -> None:
        find_weights(arguments.get("weights"))

    def describe(self, images: np.ndarray) -> np.ndarray:
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(images), self.batch_size):
                batch = torch.from_numpy(np.ascontiguousarray(images[start : start + self.batch_size]))
                (features,) = self.network(batch.permute(0, 3, 1, 2).to(self.device))
                rows.append(features.cpu().numpy())
        return np.concatenate(rows)


def _refuse_as_fid(path: Path, sha256: str, called: str) -> None:
    if called == FID:
        raise WeightsError(
            f"{path}: SHA-256 {sha256[:12]}…, expected {SHA256_PREFIX}…: not the published Inception, so its distances "
            f"are no FIDs. Fetch {FILE_NAMES[0]} again, or give the distance another name: features.called=NAME"
        )
    print(f"WARNING: {path} is not the published Inception; its distances are called {called!r} and are no FIDs")


def find_weights(weights: str | os.PathLike | None) -> Path:
    """Return the first weight file that exists among the given path and torch's hub cache.

    Raises:
        WeightsError: there is none; the message says where it goes, how to get it and what else can judge.
    """
    looked_in = [Path(weights)] if weights else []
    looked_in.append(hub_checkpoints())
    for place in looked_in:
        candidates = [place / name for name in FILE_NAMES] if place.suffix != ".pth" else [place]
        candidates += [place.with_name(name) for name in FILE_NAMES] if place.suffix == ".pth" else []
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    raise WeightsError(
        "features=inception: the FID needs Inception weights and there are none; looked in "
        + " and ".join(str(place) for place in looked_in)
        + f".\n  Put {FILE_NAMES[0]} there (91 MB, a file of torch-fidelity's release v0.2.0 on GitHub, "
        "toshas/torch-fidelity), or say features.weights=/path/to/it.\n  Without them: features=texture or "
        "features=stats need no weights; their distances are called fd_texture and fd_stats and are not FIDs."
    )


def hub_checkpoints() -> Path:
    """Return the folder of torch's hub cache, as torch finds it, without importing torch."""
    cache = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    return Path(cache).expanduser() / "hub" / "checkpoints"


def load_network(path: Path):
    """Build torch-fidelity's network from a file that is read as tensors alone.

    torch-fidelity would unpickle the file; here it is read with ``weights_only=True`` and handed over as bytes that
    this process wrote itself.

    Raises:
        WeightsError: the file is damaged, is not a plain state dict, or belongs to another network.
    """
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path}: cannot be read as plain weights ({reason}); expected the state dict {FILE_NAMES[0]}; "
            "fetch it again, or choose features=texture"
        ) from error
    own = io.BytesIO()
    torch.save(state, own)
    own.seek(0)
    try:
        return FeatureExtractorInceptionV3("zoomldm-inception", [LAYER], feature_extractor_weights_path=own).eval()
    except (RuntimeError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path}: not the InceptionV3 of the FID ({str(error).splitlines()[0]}); expected {FILE_NAMES[0]}, "
            "or choose features=texture"
        ) from error
