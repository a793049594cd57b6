"""The search engine `sqlite` for argilla-server 2.8: the page's search, filters, sorts and counts on SQLite FTS5.

    words      a text -> its words, Chinese, Japanese and Thai too
    language   what is typed into the search box -> an FTS5 expression
    kinds      values of metadata, suggestions and responses -> what can be compared
    documents  the server's objects -> plain values
    tables     plain values -> the index's tables, and out of them
    filters    filters and sorts -> SQL with bound values
    asking     searches, similarity, counts
    store      the file and the threads that work on it
    engine     the server's interface
    upkeep     the index compared with the database, mended, made anew
    queue      the page's count of pending records, made right under overlap

Import this in the server's process before it starts, with ARGILLA_SEARCH_ENGINE=sqlite: the import registers the engine
and mends the count. Then, before the first request and after the database is migrated, `await reconcile()`; at the end
`close_shared_store()`. The index is the file that ARGILLA_EMBEDDED_INDEX names, or index.db in ARGILLA_HOME_PATH.
"""

from argilla_embedded.search.engine import SqliteSearchEngine
from argilla_embedded.search.queue import mend_queue_counts
from argilla_embedded.search.store import Store, close_shared_store, shared_store
from argilla_embedded.search.upkeep import Mended, fingerprint, needs_rebuild, rebuild, reconcile

__all__ = [
    "Mended",
    "SqliteSearchEngine",
    "Store",
    "close_shared_store",
    "fingerprint",
    "mend_queue_counts",
    "needs_rebuild",
    "rebuild",
    "reconcile",
    "shared_store",
]

mend_queue_counts()
