"""What an annotator must not see, where argilla-server 2.8 would show it.

Upstream checks that an annotator belongs to the dataset's workspace, and in seven places hands out more than is theirs:

    GET  /records/{id}                                      all responses of all users, and all metadata
    GET  /datasets/{id}/users/progress                      the names of the other annotators and their counts
    GET  /datasets/{id}/progress                            the names of those who completed records
    GET  /datasets/{id}/records/search/suggestions/options  the agents of suggestions: the models' names
    GET  /records/{id}/suggestions                          the same, suggestion by suggestion
    POST /me/datasets/{id}/records/search                   the same; and filters and sorts by hidden metadata or by
                                                            agent, whose answers tell the hidden values
    GET  /workspaces/{id}/users                             to an admin of the workspace: everyone's API key, with
                                                            which the admin is the owner

Each handler is called as it is, and what it returns is cut down: for annotators to their own responses, the metadata
that they may see and suggestions without their agent; for admins to their own key. Owners see all.

What stays visible to annotators by design of Argilla: fields, guidelines, external ids, a dataset's metadata, vectors,
the value and score of suggestions, how many records are completed. A pair's key and a model's name belong in none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Handler = Callable[..., Awaitable[Any]]


def mend(api: Any) -> None:
    """Wrap the seven handlers of the imported server's API. Call once."""
    for method, path, wrapper in (
        ("GET", "/records/{record_id}", _own_record),
        ("GET", "/datasets/{dataset_id}/users/progress", _own_progress),
        ("GET", "/datasets/{dataset_id}/progress", _own_progress),
        ("GET", "/datasets/{dataset_id}/records/search/suggestions/options", _no_agents),
        ("GET", "/records/{record_id}/suggestions", _suggestions_without_agent),
        ("POST", "/me/datasets/{dataset_id}/records/search", _search_what_is_visible),
        ("GET", "/workspaces/{workspace_id}/users", _own_key),
    ):
        replace_handler(api, method, path, wrapper)


def replace_handler(api: Any, method: str, path: str, wrapper: Callable[[Handler], Handler]) -> None:
    """Put `wrapper` around the handler of one route; its parameters, schemas and documentation stay.

    Raises:
        LookupError: the server has no such route: this is not the version that was looked through.
    """
    for route in api.routes:
        if getattr(route, "path", None) == path and method in (getattr(route, "methods", None) or ()):
            route.dependant.call = wrapper(route.dependant.call)
            return
    raise LookupError(f"argilla-server has no route {method} {path}")


def _own_record(upstream: Handler) -> Handler:
    from argilla_server.api.handlers.v1.datasets.records import _filter_record_metadata_for_user
    from argilla_server.api.schemas.v1.records import Record
    from argilla_server.models import Dataset

    async def get_record(*, current_user: Any, db: Any, **rest: Any) -> Any:
        record = await upstream(current_user=current_user, db=db, **rest)
        if not current_user.is_annotator:
            return record
        await db.refresh(await Dataset.get(db, record.dataset_id), attribute_names=["metadata_properties"])
        shown = Record.model_validate(record)
        shown.metadata = await _filter_record_metadata_for_user(record, current_user)
        shown.responses = [response for response in shown.responses or () if response.user_id == current_user.id]
        _hide_agents(shown.suggestions)
        return shown

    return get_record


def _own_progress(upstream: Handler) -> Handler:
    async def get_progress(*, current_user: Any, **rest: Any) -> Any:
        progress = await upstream(current_user=current_user, **rest)
        if current_user.is_annotator:
            progress.users = [user for user in progress.users if user.username == current_user.username]
        return progress

    return get_progress


def _no_agents(upstream: Handler) -> Handler:
    async def list_suggestions_options(*, current_user: Any, **rest: Any) -> Any:
        options = await upstream(current_user=current_user, **rest)
        if current_user.is_annotator:
            for option in options.items:
                option.agents = []
        return options

    return list_suggestions_options


def _suggestions_without_agent(upstream: Handler) -> Handler:
    async def get_record_suggestions(*, current_user: Any, **rest: Any) -> Any:
        suggestions = await upstream(current_user=current_user, **rest)
        if current_user.is_annotator:
            _hide_agents(suggestions.items)
        return suggestions

    return get_record_suggestions


def _search_what_is_visible(upstream: Handler) -> Handler:
    async def search_records(*, current_user: Any, db: Any, dataset_id: Any, body: Any, **rest: Any) -> Any:
        if current_user.is_annotator:
            await _refuse_hidden_scopes(db, dataset_id, body, current_user)
        found = await upstream(current_user=current_user, db=db, dataset_id=dataset_id, body=body, **rest)
        if current_user.is_annotator:
            for item in found.items:
                _hide_agents(item.record.suggestions)
        return found

    return search_records


def _own_key(upstream: Handler) -> Handler:
    from argilla_server.api.schemas.v1.users import User, Users

    async def list_workspace_users(*, current_user: Any, **rest: Any) -> Any:
        users = await upstream(current_user=current_user, **rest)
        if current_user.is_owner:
            return users
        shown = [User.model_validate(user) for user in users.items]
        for user in shown:
            if user.id != current_user.id:
                user.api_key = ""
        return Users(items=shown)

    return list_workspace_users


def _hide_agents(suggestions: Any) -> None:
    for suggestion in suggestions or ():
        suggestion.agent = None


async def _refuse_hidden_scopes(db: Any, dataset_id: Any, body: Any, user: Any) -> None:
    """An annotator may not filter or sort by what is hidden from them; the answer is that of a name that is not there.

    Raises:
        UnprocessableEntityError: a scope is hidden metadata, or the agent of suggestions.
    """
    from argilla_server.api.policies.v1 import MetadataPropertyPolicy, is_authorized
    from argilla_server.api.schemas.v1.records import MetadataFilterScope
    from argilla_server.api.schemas.v1.suggestions import SuggestionFilterScope
    from argilla_server.errors.future import UnprocessableEntityError
    from argilla_server.models import MetadataProperty

    filters = body.filters.and_ or () if body.filters else ()
    for scope in (part.scope for part in (*filters, *(body.sort or ()))):
        if isinstance(scope, SuggestionFilterScope) and scope.property == "agent":
            raise UnprocessableEntityError("annotators cannot search by the agent of suggestions")
        if isinstance(scope, MetadataFilterScope):
            named = await MetadataProperty.get_by(db, name=scope.metadata_property, dataset_id=dataset_id)
            if named is None:
                continue
            await db.refresh(named, attribute_names=["dataset"])
            if not await is_authorized(user, MetadataPropertyPolicy.get(named)):
                raise UnprocessableEntityError(
                    f"MetadataProperty not found filtering by name={scope.metadata_property}, dataset_id={dataset_id}"
                )
