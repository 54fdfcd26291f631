"""Who may do what, and what people signed off."""
