"""The machine contract: DRF views and the bare handlers in front of Django."""
