"""The pages that users of Single Sign-On see in a browser."""
