"""Plans, stages and the rollout's state machine."""
