"""The pair: `mailweir ha`, a process of its own beside `mailweir run`. `agent` is the process,
`fsm` decides; only the command line knows them.
"""
