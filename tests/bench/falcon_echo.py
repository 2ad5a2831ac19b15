"""The bare Falcon JSON echo that benchmarks compare with."""

from __future__ import annotations

import falcon
import orjson


class Echo:
    """Answers with the JSON that it was given."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Parses the body and renders it again."""
        response.data = orjson.dumps(orjson.loads(request.bounded_stream.read()))
        response.content_type = falcon.MEDIA_JSON


application = falcon.App()
application.add_route("/echo", Echo())
