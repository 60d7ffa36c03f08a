"""Writes the pages of docs/reference from the code: `make docs`. No part of the installed program.

Each module makes one page, or two that belong together. A page has nothing by hand but its
headings and the sentence below each.
"""
