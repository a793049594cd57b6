"""The page's count of what is left to do, made to agree with the queue it shows.

argilla-server 2.8 counts a person's pending records as all records less those they responded to. The page's pending
queue shows less: a record that others completed (as many submitted as the dataset's overlap asks for) is no longer
offered. So with more annotators than the overlap needs the count never falls to nought, and the bar never fills
(argilla #5779 and its like). A second half of the same defect, drafts counted as submitted because the answers of
others on the same record were counted in, does not arise here: `get_dataset_user_progress` counts one's own.

Here pending is what the queue holds, and the total is what was or will be this person's: the shares the page draws
from it add up to one. The dataset's own progress, for the team, stays as it is.
"""

from functools import wraps
from typing import Any

from argilla_embedded.search.engine import SqliteSearchEngine


def mend_queue_counts() -> None:
    """Put the count below in the place of the server's. Nothing changes for another search engine."""
    from argilla_server.contexts import datasets

    upstream = datasets.get_user_dataset_metrics
    if hasattr(upstream, "__wrapped__"):
        return

    @wraps(upstream)
    async def get_user_dataset_metrics(db: Any, search_engine: Any, user: Any, dataset: Any) -> dict[str, int]:
        if not isinstance(search_engine, SqliteSearchEngine):
            return dict(await upstream(db, search_engine, user, dataset))
        return await user_metrics(search_engine, user, dataset)

    datasets.get_user_dataset_metrics = get_user_dataset_metrics


async def user_metrics(engine: SqliteSearchEngine, user: Any, dataset: Any) -> dict[str, int]:
    """One person's submitted, discarded and draft responses, the records waiting for one, and the sum of all."""
    own = await engine.get_dataset_user_progress(dataset, user)
    counts = {status: own.get(status, 0) for status in ("submitted", "discarded", "draft")}
    counts["pending"] = 0 if dataset.is_draft else await engine.count_waiting(dataset, user)
    return {"total": sum(counts.values()), **counts}
