"""Pulls: signal points that Prometheus-compatible servers are asked for."""
