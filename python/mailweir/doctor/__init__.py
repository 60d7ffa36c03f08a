"""`mailweir doctor`: what is wrong between this balancer and its servers, and on this machine, each
with the setting to change.

`examination` is its door, for the command line alone. It looks (`conversation` with servers,
`machine_facts` at the kernel); modules with `verdict` in their names decide by what was
seen, without I/O; `advice` has the words of what to change. It changes nothing and sends
no mail. It may ask the running process over the admin socket, and needs none.
"""
