"""The version, which is that of the program inside (`ApusVersion` in the Swift sources)."""

__version__ = "0.1.0"
