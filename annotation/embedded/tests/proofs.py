"""Two proofs on a real server over HTTP, at any size: nothing acknowledged is lost, and time per record stays flat.

    python annotation/embedded/tests/proofs.py kills --dir DIR [--responses 2000] [--annotators 5] [--kills 20]
    python annotation/embedded/tests/proofs.py size  --dir DIR [--records 20000] [--step 1000]

Each prints one JSON object. DIR is made, and left as it is at the end, the server stopped.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from proof_kills import NothingLost, nothing_lost
from proof_size import Step, size

__all__ = ["NothingLost", "Step", "nothing_lost", "size"]


def main() -> None:
    """Run one proof at the size asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    proofs = parser.add_subparsers(required=True, dest="proof")
    kills = proofs.add_parser("kills")
    kills.add_argument("--responses", type=int, default=2000)
    kills.add_argument("--annotators", type=int, default=5)
    kills.add_argument("--kills", type=int, default=20)
    big = proofs.add_parser("size")
    big.add_argument("--records", type=int, default=20_000)
    big.add_argument("--step", type=int, default=1_000)
    for proof in (kills, big):
        proof.add_argument("--dir", type=Path, required=True)
    asked = parser.parse_args()
    if asked.proof == "kills":
        found: Any = asdict(
            nothing_lost(asked.dir, responses=asked.responses, annotators=asked.annotators, kills=asked.kills)
        )
    else:
        found = [asdict(step) for step in size(asked.dir, records=asked.records, step=asked.step)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
