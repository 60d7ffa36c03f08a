"""The configuration: YAML text to a typed, frozen model, with every error placed.

`load` is the way in; `model` says what there is. Nothing here waits or does
network I/O, so that `mailweir check` and the tests need no event loop.
"""
