"""What a workflow's paths cost and ask of reviewers, now and after the next stage."""
