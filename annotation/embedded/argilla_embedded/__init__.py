"""The real Argilla server and page in one process on one folder: SQLite, no Elasticsearch, no Redis, no Docker.

    cli          commands: serve, stop, status, users, backup, restore, reindex
    server       one serving process, from the lock to the clean end
    booting      argilla-server 2.8.0, imported as it is, with what it needs put under it
      database     SQLite that keeps what it acknowledged; migrations; repair after a kill
      jobs         background jobs in this process, without Redis
      search       the search engine, on SQLite FTS5
      page         the page's files, without remote fonts
      hotspots     two slow spots of the server, mended around
      isolation    what annotators must not see, where the server would show it
      closed       routes that are off here: docs, transfers to and from a hub
      gate         headers, hosts, failed log-ins
    accounts     the owner and the annotators, with random passwords
    folder       DIR: who may read what, the lock, server.json
    backup       one file with all of it, and back

Nothing of argilla-server is changed on disk.
"""

__version__ = "0.1.0"
