"""What workflows report, and what is decided on it."""
