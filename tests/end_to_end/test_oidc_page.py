"""The shop of docs/oidc.md works as it stands there, in a browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.browser import browser
from tests.helpers.pages import follow
from tests.helpers.ports import free_port, listens
from tests.helpers.quickstart import QuickstartUnderTest
from tests.helpers.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "oidc.md"
PASSWORD = "violet harbour seventeen lamps"


def test_a_user_logs_in_to_the_shop_and_out_again(quickstart: QuickstartUnderTest, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("The page calls the provider with curl, which is not installed.")
    port = free_port()
    shop, issuer = f"http://127.0.0.1:{port}", f"{quickstart.address}/zato/sso/oidc"
    output = follow(
        PAGE, tmp_path, quickstart.environment | {"ENV": str(quickstart.path), "ISSUER": issuer, "SHOP": shop}
    )
    assert f'"issuer":"{issuer}"' in output
    user = {"username": "olga", "password": PASSWORD, "auto_approve": True}
    quickstart.junctor("invoke", "zato.sso.admin.create-user", "--payload", json.dumps(user))

    secret = (tmp_path / "shop-secret.txt").read_text().strip()
    log = tmp_path / "shop.log"
    with log.open("wb") as output:
        program = subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "shop", "run", "--port", str(port)],
            cwd=tmp_path,
            env=os.environ | {"ISSUER": issuer, "SHOP_SECRET": secret, "FLASK_SECRET_KEY": "of tests"},
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: listens(port), 30, "the shop does not listen")
        with browser() as olga:
            olga.open(shop)
            olga.sees("to continue to Shop")
            olga.fill("form", username="olga", password="wrong password of somebody")
            olga.sees("The user name or the password is wrong")
            olga.fill("form", username="olga", password=PASSWORD)
            olga.sees("Hello olga")
            olga.click("#bye")
            olga.sees("Goodbye")
            olga.open(shop)
            olga.sees("to continue to Shop")
            assert not olga.problems()
    except BaseException:
        print(log.read_text())  # pytest shows it
        raise
    finally:
        program.kill()
        program.wait()
