"""The device that models are sampled on."""

from zoomldm.errors import ConfigError


def device_of(name: str) -> str:
    """Resolve ``auto`` to cuda where there is one.

    Raises:
        ConfigError: cuda is asked for and there is none.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: torch sees no GPU here; use device=cpu (`make doctor` says why)")
    return name


def device_name(device: str) -> str:
    """Name the hardware behind a device, for reports."""
    import torch

    from zoomldm.runs.provenance import hardware

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(device))
    return f"{hardware()['cpus']} CPU cores"
