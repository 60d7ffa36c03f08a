"""mailweir: a load balancer in front of SMTP farms.

The Python control plane. `cli` is where a command begins, `daemon` where the
running process is put together.
"""
