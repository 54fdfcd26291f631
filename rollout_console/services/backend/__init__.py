"""Django's PostgreSQL backend, with words for a stack that is not running."""
