"""Say what a weight file is, or print the cost of every model.

    python src/weights.py PATH [--no-hash]     what a checkpoint or folder is, which model it loads into
    python src/weights.py --summary            parameters and multiply-adds of every model at the paper's size

Where weight files are published and where to put them: docs/weights.md.
"""

import argparse

from zoomldm.cli import user_errors


def main() -> None:
    """Answer one question about weights and exit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a weight file, or a folder with one")
    parser.add_argument("--summary", action="store_true", help="print the cost of every model at the paper's size")
    parser.add_argument("--no-hash", action="store_true", help="skip the SHA-256, which reads the whole file")
    options = parser.parse_args()
    if not options.paths and not options.summary:
        parser.error("name a weight file, or ask for --summary")
    with user_errors():
        for path in options.paths:
            from zoomldm.weights.inspect import report

            print(report(path, with_hash=not options.no_hash))
        if options.summary:
            from zoomldm.commands.cost import summary

            print(summary())


if __name__ == "__main__":
    main()
