"""The demo: simulated AI workflows that are ordinary clients of the console."""
