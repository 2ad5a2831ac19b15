"""The steps from one schema of the object database to the next."""
