"""What the pair has the kernel do: addresses (`addresses`), what is told to neighbours (`announce`)
and asked of them (`neighbours`). Nobody else speaks rtnetlink, ARP or NDP.
"""
