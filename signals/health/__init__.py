"""Whether the signals can be trusted: freshness, labels, ids, clocks, assignment."""
