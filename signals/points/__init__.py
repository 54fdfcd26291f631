"""Metric points that no run carries: gauges, delta sums and histograms, stored once each."""
