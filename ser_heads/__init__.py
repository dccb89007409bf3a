"""End-to-end speech emotion classifiers on top of feature-imitating networks."""
