"""Rows made for the pages: all queries done before rendering."""
