"""Routes of argilla-server that are off here.

    the API's documentation    its pages load scripts from a CDN, and nobody who annotates needs it
    "share your progress"      links a picture on a foreign server that is told the user's name
    import, export (hub)       clients' words do not leave this machine by a click; ``prefkit annotate pull`` or the
                               SDK get them out

``api.openapi()`` still describes the API, in this process; the security tests are made from it.
"""

from __future__ import annotations

from typing import Any

from argilla_embedded.isolation import Handler, replace_handler

DOCUMENTATION = {"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/api", "/share-your-progress"}
TO_AND_FROM_A_HUB = ("/datasets/{dataset_id}/import", "/datasets/{dataset_id}/export")


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
