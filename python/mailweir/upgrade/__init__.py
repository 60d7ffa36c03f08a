"""An upgrade in place: the next process takes over what this one listens with, while both live.

`successor` is the next process as this one sees it, `predecessor` this one as the next one sees it,
`channel` what they say to each other.
"""
