"""What the process answers, a file for each command: plain values, for JSON and the page. Pure.

Called by `routes` and `page`; `text` has the same in words.
"""
