"""Who has the virtual addresses: decided here by facts and time alone. Pure: no event loop, no
socket, no clock. `inputs` is what `agent` drives, `grants` what `witness` drives.
"""
