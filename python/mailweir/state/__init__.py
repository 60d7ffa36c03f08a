"""From what is configured and known to what the data plane does.

`desired` folds, `diff` says what changed, `reconcile` applies. Everything that can
change what runs enters at the fold.
"""
