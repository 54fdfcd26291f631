"""Errors, outbox, canonical JSON, nudges: what every other part stands on."""
