"""Action requests: what an agent wants to do to the world, decided, and what became of it."""
