"""Telling people and machines: subscriptions, and deliveries of what the outbox holds."""
