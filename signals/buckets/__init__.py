"""The arrival ledger and its folds by event minute."""
