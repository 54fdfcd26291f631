"""What other systems' alerts say of our paths: evidence that guards read beside the ledger."""
