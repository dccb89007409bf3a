"""The command lines, and the adapters from corpora on disk to utterances."""
