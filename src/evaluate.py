"""Distances per magnification of a trained ZoomLDM, with what gives them meaning: `python src/evaluate.py [run=NAME]`.

Prints which run, the table with the paper's Table 1 beside it and the claims; writes <run>/evaluation and <run>/report.
"""

from zoomldm.cli import main


def check(cfg) -> None:
    from zoomldm.commands.evaluation_check import check_evaluate

    check_evaluate(cfg)


def run(cfg) -> None:
    from zoomldm.commands.evaluation import evaluate

    evaluate(cfg)


if __name__ == "__main__":
    main("evaluate", run, check=check)
