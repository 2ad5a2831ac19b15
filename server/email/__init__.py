"""E-mail: ``self.email`` of services."""
