"""Single Sign-On and user management."""
