"""Tables whose rows are data, not configuration."""
