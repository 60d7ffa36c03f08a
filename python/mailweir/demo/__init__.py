"""`mailweir demo`: a farm, the real balancer in front of it, traffic, and a table that lives.

`run` leads; `farm` are the mail servers, `child` the balancer, `traffic` the
senders, `ledger` the books of every mail. `watch` turns the balancer's answers into
events, `verdict` says at the end how it went, `screen` shows it all.
"""
