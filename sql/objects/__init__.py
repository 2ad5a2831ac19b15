"""The object types, one family a file; every module here is found by itself."""
