"""What tests of every kind share; import it as ``tests.helpers``."""
