"""Runs that are kept for anyone to audit, and the numbers of pages that rest on them."""
