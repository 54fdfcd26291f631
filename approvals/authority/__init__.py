"""Roles, tokens and who may do what."""
