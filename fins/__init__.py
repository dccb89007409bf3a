"""Feature-imitating networks: small networks that imitate closed-form features of a window of audio."""

__version__ = "0.1.0"
