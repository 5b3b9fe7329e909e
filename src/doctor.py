"""Say what this machine has: `python src/doctor.py` (or `make doctor`)."""

from zoomldm.cli import main


def run(cfg) -> None:
    from zoomldm.commands.doctor import examine

    examine(cfg)


if __name__ == "__main__":
    main("train", run)
