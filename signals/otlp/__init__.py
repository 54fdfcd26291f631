"""OpenTelemetry's own protocol: spans become runs, evaluation events observations."""
