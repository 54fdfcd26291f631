"""Workflows, paths, segments, releases and the people responsible."""
