"""The live objects of a running worker."""
