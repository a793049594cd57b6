"""A server that kills itself at an index call (KILL_AT=method:n), or, started again, says how the index was mended.

Prints in the second case: whether the index differed, its fingerprint after `reconcile`, and that of a rebuild.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from search_server import Server


def main() -> None:
    argilla = Server(Path(sys.argv[1]))
    if os.environ["KILL_AT"]:
        method, _, number = os.environ["KILL_AT"].partition(":")
        kill_at(argilla.search.SqliteSearchEngine, method, int(number))
        work(argilla)
        return
    differs = argilla.run(argilla.search.needs_rebuild())
    argilla.run(argilla.search.reconcile())
    mended = argilla.run(argilla.search.fingerprint())
    argilla.run(argilla.search.rebuild())
    print("differs" if differs else "same", mended, argilla.run(argilla.search.fingerprint()))


def kill_at(engine: type, method: str, number: int) -> None:
    calls = iter(range(1, number + 1))
    original = getattr(engine, method)

    async def killed(self: Any, *arguments: Any, **named: Any) -> None:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        await original(self, *arguments, **named)

    setattr(engine, method, killed)


def work(argilla: Server) -> None:
    dataset, workspace = argilla.dataset("killed", overlap=2, metadata={"topic": "terms"})
    keys = [argilla.annotator(name, workspace)[1] for name in ("ann", "bob")]
    records = []
    for batch in range(4):
        texts = [f"record {batch} {number}" for number in range(10)]
        records += argilla.add(dataset, [{"fields": {"text": text}, "metadata": {"topic": "t"}} for text in texts])
    for record in records[:10]:
        for key in keys:
            argilla.respond(record, key, "submitted")
    argilla.ask("DELETE", f"/datasets/{dataset}/records?ids={','.join(records[5:8])}")


if __name__ == "__main__":
    main()
