"""Services: the base class, their input and output, invocation and deployment."""
