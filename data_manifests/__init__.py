"""Manifests of known corpora, one CSV each: names and checksums, no audio; README.md says more."""
