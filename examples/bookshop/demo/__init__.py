"""The bookshop, served over HTTP, and a tour of what it does when things go wrong: `python -m bookshop.demo`."""
