"""The toy study: every flow method on small distributions on R^2, SO(3) and SE(3), one table, pictures.

    python scripts/toy_flows.py                            # everything, one training seed
    python scripts/toy_flows.py --seeds 3                  # the full study
    python scripts/toy_flows.py --quick --sets peaks box --methods plain ot meanflow

Interrupted, it continues where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from toy.methods import METHODS
from toy.report import report
from toy.sets import SETS
from toy.study import Study, run, select, small_data
from toy.training import Budget

WEAK = ("bridge_score", "sde", "sde_strong")
"""Trained once more with a tenth of the steps: does noise on the way mend a poor field?"""

LONG = ("peaks-haar", "box-plain", "box-plain_2step")
"""Trained once more with four times the steps: how far likelihoods and two steps get."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET", help=", ".join(SETS)
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=list(METHODS),
        metavar="METHOD",
        help=", ".join(METHODS),
    )
    parser.add_argument("--seeds", type=int, default=1, help="training seeds, trained side by side (1)")
    parser.add_argument("--steps", type=int, default=Budget.steps, help=f"optimiser steps ({Budget.steps})")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps: to see it run")
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/toy_flows"), help="where cells are kept (runs/toy_flows)"
    )
    parser.add_argument(
        "--publish",
        type=Path,
        metavar="DOCS",
        help="also write DOCS/results/toy_flows.json and DOCS/images/toy_*",
    )
    options = parser.parse_args()
    steps = max(1, options.steps // 10) if options.quick else options.steps
    study = Study(options.out, options.seeds, Budget(steps=steps))
    run(
        study,
        select(options.sets, options.methods) + small_data(options.sets, options.methods),
        options.workers,
    )
    weak = Study(options.out, options.seeds, Budget(steps=max(1, steps // 10)))
    run(weak, select(options.sets, [method for method in WEAK if method in options.methods]), options.workers)
    long = Study(options.out, options.seeds, Budget(steps=4 * steps))
    longer = [cell for cell in select(options.sets, options.methods) if cell.name in LONG]
    run(long, longer, options.workers)
    print(report(study, weak, long, options.publish))


if __name__ == "__main__":
    main()
