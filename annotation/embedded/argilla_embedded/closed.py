"""Routes of argilla-server that are off here.

    the API's documentation    its pages load scripts from a CDN, and nobody who annotates needs it
    "share your progress"      links a picture on a foreign server that is told the user's name
    import, export (hub)       clients' words do not leave this machine by a click; ``prefkit annotate pull`` or the
                               SDK get them out

For those transfers alone argilla-server imports `datasets`, which brings pyarrow and pandas: a fifth of a start and
much memory. `without_datasets` spares both.

``api.openapi()`` still describes the API, in this process; the security tests are made from it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from argilla_embedded.isolation import Handler, replace_handler

DOCUMENTATION = {"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/api", "/share-your-progress"}
TO_AND_FROM_A_HUB = ("/datasets/{dataset_id}/import", "/datasets/{dataset_id}/export")

HUB_LIBRARY = "datasets"
HUB_NAMES = ("Dataset", "NamedSplit", "load_dataset", "features")
"""What argilla-server takes from it; used in transfers only."""


@contextlib.contextmanager
def without_datasets() -> Iterator[None]:
    """While this is open an import of `datasets` finds an empty stand-in; import the server inside, then `close` it."""
    stand_in = ModuleType(HUB_LIBRARY)
    vars(stand_in).update(dict.fromkeys(HUB_NAMES))
    before = sys.modules.get(HUB_LIBRARY)
    sys.modules[HUB_LIBRARY] = before or stand_in
    try:
        yield
    finally:
        if before is None:
            del sys.modules[HUB_LIBRARY]


def close(app: Any, api: Any) -> None:
    """Take the documentation's routes away and have transfers to and from a hub refused to everyone. Call once."""
    for part in (app, api):
        part.router.routes[:] = [route for route in part.routes if getattr(route, "path", None) not in DOCUMENTATION]
    for path in TO_AND_FROM_A_HUB:
        replace_handler(api, "POST", path, _refused)


def _refused(upstream: Handler) -> Handler:
    from argilla_server.errors import ForbiddenOperationError

    async def refuse(**_: Any) -> None:
        raise ForbiddenOperationError("this server sends nothing to a hub and fetches nothing from one")

    return refuse
