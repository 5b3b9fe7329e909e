"""Run the whole job at the demo's scale: `python src/demo.py [slides=FOLDER] [mpp=0.5]` (or `make demo`)."""

from zoomldm.cli import main


def run(cfg) -> None:
    from zoomldm.commands.demo import run_demo

    run_demo(cfg)


if __name__ == "__main__":
    main("demo", run)
