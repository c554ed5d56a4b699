"""Governance's lists: a module for each, and what they have in common.

A list in its own order costs the rows that it shows; one that is sorted looks at all that its
filters leave, in steps.
"""
