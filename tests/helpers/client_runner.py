"""Runs code that calls Junctor as an application would, and prints what came of it as JSON.

    client_runner.py django|flask PATH...     the views on standard input, in a real application; prints [[status, page], ...]
    client_runner.py script                   any code on standard input; prints what it has put into ``result``

A process of its own, since the package ``zato`` in it is not the one that servers have: it is that of the PyPI package zato-client,
unmodified.  zato-client imports a few constants from the package zato-common, which cannot be installed without all of Zato; these
are here.
"""

import json
import sys
import types

import munch


def module(name: str, **content: object) -> None:
    """Put a module in the place of one that cannot be installed."""
    made = types.ModuleType(name)
    made.__path__ = []
    made.__dict__.update(content)
    sys.modules[name] = made


module("bunch", bunchify=munch.munchify)
module("zato.common")
module(
    "zato.common.api",
    BROKER=types.SimpleNamespace(DEFAULT_EXPIRATION=15),
    ZATO_NOT_GIVEN="",
    ZATO_OK="ZATO_OK",
)
module("zato.common.exception", ZatoException=type("ZatoException", (Exception,), {}))
module("zato.common.log_message", CID_LENGTH=24)
module("zato.common.odb")
module("zato.common.odb.model", Server=object)
SOAP = "soap_data_path soap_data_xpath soap_fault_xpath zato_data_path zato_data_xpath zato_details_xpath zato_result_xpath"
module("zato.common.xml_", **dict.fromkeys(SOAP.split()))


def in_django(view: dict[str, object], paths: list[str]) -> list[tuple[int, object]]:
    import django
    from django.conf import settings
    from django.test import Client

    urls = types.ModuleType("urls")
    urls.__dict__.update(view)
    settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="tests", DATABASES={}, ROOT_URLCONF=urls)
    django.setup()
    return [((page := Client().get(path)).status_code, page.json()) for path in paths]


def in_flask(view: dict[str, object], paths: list[str]) -> list[tuple[int, object]]:
    browser = view["app"].test_client()
    return [((page := browser.get(path)).status_code, page.get_json()) for path in paths]


def main(kind: str, *paths: str) -> None:
    made: dict[str, object] = {"__name__": "application"}
    exec(compile(sys.stdin.read(), "standard input", "exec"), made)
    print(json.dumps(made["result"] if kind == "script" else RUN[kind](made, list(paths))))


RUN = {"django": in_django, "flask": in_flask}
if __name__ == "__main__":
    main(*sys.argv[1:])
