"""Beyond one machine: the proofs.

    python -m benchmarks.scale --size small|full [--only PART]

**storage**      the demo in a bucket that fails now and then; commands killed while they write to one.
**asking**       generate, judge and score on a cluster beside the local engine; a worker killed during each.
**pairs**        near-duplicates and build-pairs on a cluster beside the local engine; a worker killed during each.
**importing**    scrub and import on a cluster beside the local engine; a worker killed during each.
**growth**       time and memory of near-duplicates, splits and build-pairs over sizes, on both engines.
**training**     several processes beside one: losses, going on with another number, tokens, memory.
**plan**         what `prefkit plan` says from a sample beside what the run then takes.
**paper**        the lines of docs/scale.md, made again.

``scale_parts`` holds them, each a command and a process of its own with a JSON of its own, and
``benchmarks/out/scale.json`` has all that were run. Parts that read real data find it in the folder PREFKIT_DATA, and
are left out without it.
"""

from __future__ import annotations

import sys

from benchmarks.parts import Part, run_parts

CHATS = "chatpsychiatrist"
SIZES = {"small": ("--size", "small"), "full": ("--size", "full")}
PARTS = {
    "storage": Part(("--kills", "6"), ("--kills", "48"), "scale-storage"),
    "asking": Part(**SIZES, written="scale-asking", data=CHATS),
    "pairs": Part(("--prompts", "500"), ("--prompts", "200000"), "scale-pairs", CHATS),
    "importing": Part(("--prompts", "500", "--kills", "1"), ("--prompts", "200000"), "scale-importing", CHATS),
    "growth": Part(
        ("--prompts", "1000", "--prompts", "5000"),
        ("--prompts", "10000", "--prompts", "100000", "--prompts", "1000000"),
        "scale-growth",
    ),
    "training": Part(**SIZES, written="scale-training"),
    "plan": Part(**SIZES, written="scale-plan", data=CHATS),
    "paper": Part(written="scale-paper", data=CHATS),
}

if __name__ == "__main__":
    sys.exit(run_parts("scale", __doc__, PARTS))
