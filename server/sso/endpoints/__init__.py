"""The table of all endpoints of the REST API: what parses requests, makes channels, OpenAPI and the documentation goes by it."""

from junctor.server.sso.endpoints.declaration import BASE, Answer, Endpoint, Field, Given, Output, Type, Who
from junctor.server.sso.endpoints.table import ENDPOINTS, GROUPS

__all__ = ["BASE", "ENDPOINTS", "GROUPS", "Answer", "Endpoint", "Field", "Given", "Output", "Type", "Who"]
