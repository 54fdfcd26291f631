"""Compile, evaluate and serve what a context gets."""
