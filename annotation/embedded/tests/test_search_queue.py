"""What an annotator's page says is left to do is what its queue holds, also when others complete records meanwhile."""

import itertools
from uuid import UUID

import pytest
from search_server import Server, queue, server

STATUSES = ("pending", "draft", "submitted", "discarded")


@pytest.fixture(scope="module")
def argilla() -> Server:
    return server()


def counted(argilla: Server, dataset: str, key: str) -> dict[str, int]:
    return dict(argilla.ask("GET", f"/me/datasets/{dataset}/metrics", key=key)["responses"])


def shown(argilla: Server, dataset: str, key: str) -> dict[str, int]:
    return {status: argilla.found(dataset, queue(status), key=key)["total"] for status in STATUSES}


def counted_by_upstream(argilla: Server, dataset: str, user: str) -> dict[str, int]:
    """The same from the function of argilla-server that ours stands in for."""
    from argilla_server.contexts import datasets
    from argilla_server.database import AsyncSessionLocal
    from argilla_server.models import Dataset, User

    async def count() -> dict[str, int]:
        engine = await argilla.search.SqliteSearchEngine.new_instance()
        async with AsyncSessionLocal() as db:
            of = await User.get_or_raise(db, UUID(user)), await Dataset.get_or_raise(db, UUID(dataset))
            return dict(await datasets.get_user_dataset_metrics.__wrapped__(db, engine, *of))

    return argilla.run(count())


def test_the_count_is_the_queue_under_overlap_two_where_upstreams_arithmetic_is_wrong(argilla: Server) -> None:
    """Six records, two answers wanted, three annotators: what two have completed is no longer the third's to do."""
    dataset, workspace = argilla.dataset("overlap-two", overlap=2)
    records = argilla.add(dataset, [{"fields": {"text": f"text {n}"}} for n in range(6)])
    (_, ann), (_, bob), (cyd_id, cyd) = (argilla.annotator(name, workspace) for name in ("ann2", "bob2", "cyd2"))

    for record in records[:2]:
        argilla.respond(record, ann, "submitted")
        argilla.respond(record, bob, "submitted")
    argilla.respond(records[2], ann, "draft")
    argilla.respond(records[3], bob, "discarded", rating=None)
    argilla.respond(records[0], cyd, "draft")

    for key in (ann, bob, cyd):
        counts = counted(argilla, dataset, key)
        assert {status: counts[status] for status in STATUSES} == shown(argilla, dataset, key)
        assert counts["total"] == sum(counts[status] for status in STATUSES)
    assert counted(argilla, dataset, cyd) == {"total": 5, "pending": 4, "draft": 1, "submitted": 0, "discarded": 0}
    assert counted_by_upstream(argilla, dataset, cyd_id)["pending"] == 5  # one too many: records[1], done without cyd


def test_a_draft_on_a_record_that_another_submitted_counts_as_a_draft_only(argilla: Server) -> None:
    """argilla #5779: there the other's submission was counted as one's own, and pending fell by two."""
    dataset, workspace = argilla.dataset("issue-5779", overlap=2)
    first, *_ = argilla.add(dataset, [{"fields": {"text": f"text {n}"}} for n in range(3)])
    (_, ann), (_, bob) = (argilla.annotator(name, workspace) for name in ("ann5779", "bob5779"))
    argilla.respond(first, bob, "submitted")
    argilla.respond(first, ann, "draft")
    assert counted(argilla, dataset, ann) == {"total": 3, "pending": 2, "draft": 1, "submitted": 0, "discarded": 0}


def test_the_queue_empties_as_the_count_falls_to_nought(argilla: Server) -> None:
    """Two annotators and overlap one: each takes what the other left, and both counts reach nought together."""
    dataset, workspace = argilla.dataset("empties", overlap=1)
    argilla.add(dataset, [{"fields": {"text": f"text {n}"}} for n in range(5)])
    keys = [argilla.annotator(name, workspace)[1] for name in ("ann1", "bob1")]
    for key in itertools.cycle(keys):
        page = argilla.found(dataset, queue("pending"), key=key, limit=1)
        assert page["total"] == counted(argilla, dataset, key)["pending"]
        if not page["items"]:
            break
        argilla.respond(page["items"][0]["record"]["id"], key, "submitted")
    assert [counted(argilla, dataset, key)["pending"] for key in keys] == [0, 0]
    assert argilla.ask("GET", f"/datasets/{dataset}/progress")["completed"] == 5
