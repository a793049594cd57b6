"""Two slow spots of argilla-server 2.8, mended around; what it answers stays the same.

    parsed_settings   of a question or metadata property builds a pydantic TypeAdapter at every access, that is several
                      times a record; here the two adapters are built once, and validate as before
    webhook events    are assembled for every record and response (six queries and a full dump) before it is asked
                      whether any webhook is enabled; here that is asked first, once a database session (a request)

With an enabled webhook the second changes nothing. Without one, the event that nobody is sent is not assembled.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

_KNOWN = "argilla_embedded.webhooks"


def mend() -> None:
    """Put both in place. Call once, after importing the server."""
    _settings_adapters()
    _events_only_for_webhooks()


def _settings_adapters() -> None:
    from argilla_server.models import database as models
    from pydantic import TypeAdapter

    question, metadata = TypeAdapter(models.QuestionSettings), TypeAdapter(models.MetadataPropertySettings)
    models.Question.parsed_settings = property(lambda self: question.validate_python(self.settings))
    models.MetadataProperty.parsed_settings = property(lambda self: metadata.validate_python(self.settings))


def _events_only_for_webhooks() -> None:
    from argilla_server.webhooks.v1 import records, responses
    from argilla_server.webhooks.v1.event import Event

    class Unsent(Event):  # type: ignore[misc]
        """An event for nobody."""

        async def notify(self, db: Any) -> list[Any]:
            return []

    def unless_needless(build: Any) -> Any:
        async def build_event(db: Any, event: str, subject: Any) -> Event:
            if await _any_webhook(db):
                return await build(db, event, subject)
            return Unsent(event=event, timestamp=datetime.now(timezone.utc), data={})

        return build_event

    records.build_record_event = unless_needless(records.build_record_event)
    responses.build_response_event = unless_needless(responses.build_response_event)


async def _any_webhook(db: Any) -> bool:
    """Whether a webhook is enabled, asked once a session."""
    from argilla_server.contexts.webhooks import list_enabled_webhooks

    if _KNOWN not in db.info:
        db.info[_KNOWN] = bool(await list_enabled_webhooks(db))
    return bool(db.info[_KNOWN])
