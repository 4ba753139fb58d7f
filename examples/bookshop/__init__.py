"""A small bookshop, the example of the docs: one domain, and the same app with async and without."""
