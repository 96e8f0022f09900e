"""``python -m tests.chaos``: everything that can break is broken while work goes on, and the books must agree.

Prints the seed, a table of the books beside the provider's tally, and how often each kind of fault really hit. Ends
with status 1 on any difference, and when the run proves too little: a kind of fault that never hit, or too few kills
between hold and settle.
"""

import argparse
import logging
import random
import shutil
import sys
import time
from pathlib import Path

from nooble.processes import termination_as_interrupt
from tests.chaos import cluster
from tests.chaos.plan import PROFILES, control, draw, full, short

APP, NAIVE_APP = "tests.chaos.app", "tests.chaos.naive"


def main() -> int:
    arguments = _arguments()
    profiles = [arguments.profile] if arguments.profile else PROFILES
    form = (control if arguments.naive else short if arguments.short else full)(arguments.seconds)
    plan = draw(arguments.seed, form, profiles)
    print(f"chaos: seed {arguments.seed}, {arguments.seconds:g} seconds, {', '.join(profiles)}", flush=True)
    began = time.monotonic()
    # Engines and workers are taken down whatever ends the run.
    with termination_as_interrupt(), cluster.running(app=NAIVE_APP if arguments.naive else APP) as started:
        import django  # noqa: PLC0415 - the settings read the environment that names the engines

        django.setup()
        logging.basicConfig(
            filename=started.data_dir / "log" / "harness.log",
            level=logging.WARNING,
            format="%(asctime)s %(name)s %(message)s",
            force=True,
        )
        from tests.chaos import report, storm  # noqa: PLC0415 - models need the settings

        try:
            outcome = storm.run(
                plan, started, seed=arguments.seed, calm_seconds=arguments.calm, hard=not arguments.naive
            )
        finally:
            if arguments.logs:
                shutil.copytree(started.data_dir / "log", arguments.logs, dirs_exist_ok=True)
    print(f"\n{report.table(outcome.read, outcome.sampler)}\n\n{report.hits(outcome.hits)}\n")
    wrong = [*outcome.differences, *report.missed(plan, outcome.hits)]
    for line in wrong:
        print(f"DIFFERENCE {line}")
    print(f"{'FAILED' if wrong else 'passed'}: seed {arguments.seed}, {time.monotonic() - began:.0f} seconds")
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--seconds", type=float, default=120, help="how long work and faults go on")
    parser.add_argument(
        "--calm", type=float, default=600, help="how long, at most, all work may take to end after that"
    )
    parser.add_argument("--profile", choices=PROFILES, help="whether the provider can be asked; both when left out")
    parser.add_argument("--logs", type=Path, help="a directory to keep the logs of workers and engines in")
    parser.add_argument("--short", action="store_true", help="less of everything")
    parser.add_argument(
        "--naive", action="store_true", help="the negative control: a till as it is usually made, which must fail"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
