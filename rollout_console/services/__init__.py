"""The servers behind the console: Postgres and Valkey, embedded unless URLs name real ones.

Nothing here imports Django's settings, so that it can run before they can be read;
`roles` and `backend` alone know Django's connections.
"""
