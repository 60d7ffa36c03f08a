"""The pair: `mailweir ha`, a process of its own beside `mailweir run`. `agent` is the process,
`machine` decides, `kernel` has addresses. Only the command line knows them.
"""
