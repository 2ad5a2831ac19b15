"""The example applications of Single Sign-On, as their users have them: in a browser, with a mailbox and an authenticator."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyotp
import pytest

from tests.helpers.browser import Browser, browser
from tests.helpers.mail_server import MailServer
from tests.helpers.ports import free_port, listens
from tests.helpers.quickstart import QuickstartUnderTest
from tests.helpers.waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
APP = "Examples"
SMTP = "Mails of examples"
PASSWORD = "violet harbour seventeen lamps"
NEW_PASSWORD = "copper lantern beneath forty roofs"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Site:
    """An example that runs on the cluster of all tests, and a browser in front of it."""

    quickstart: QuickstartUnderTest
    mails: MailServer
    browser: Browser
    url: str

    def sign_up(self) -> str:
        """The name of a new user, who has signed up, confirmed the address, and been approved."""
        username = f"visitor{next(_numbers)}"
        address = f"{username}@example.com"
        self.browser.open(f"{self.url}{self.sign_up_path}")
        self.browser.fill("form", username=username, email=address, password=PASSWORD)
        self.browser.sees("Look into your mailbox!")

        link = re.search(rf"{re.escape(self.url)}\S*#confirm_token=\S+", self.mails.wait(address).text)
        assert link is not None, self.mails.received[-1].text
        self.browser.open(link[0])
        self.browser.sees_field("confirm_token")
        assert "confirm_token" not in self.browser.driver.current_url
        self.browser.click("form:has([name=confirm_token]) button[type=submit]")
        self.browser.sees("Your e-mail address is confirmed")
        self.approve(username)
        assert "account at Example is ready" in self.mails.wait(address, count=2).text
        return username

    def approve(self, username: str) -> None:
        """A super-user lets a user in."""
        self.quickstart.junctor("sso", "approve-user", username)

    @property
    def sign_up_path(self) -> str:
        return "/sign-up" if self.is_flask else "/#sign-up"

    @property
    def is_flask(self) -> bool:
        return "Flask" in type(self).__name__


class FlaskSite(Site):
    """The application of deploy/examples/sso_flask."""


class Page(Site):
    """The page of deploy/examples/sso_spa."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of the module."""
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def mails(quickstart: QuickstartUnderTest) -> Iterator[MailServer]:
    """The mailbox of everybody, and an application whose mails go there."""
    with MailServer() as server:
        quickstart.junctor(
            "create-email-smtp", SMTP, "--host", "127.0.0.1", "--port", str(server.port), "--mode", "plain"
        )
        quickstart.junctor("create-sso-application", APP, "--signup-allowed", "true")
        yield server


@contextmanager
def running(command: list[str], port: int, **environment: str) -> Iterator[None]:
    """A program that listens on a port."""
    program = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: listens(port), 30, f"{command} does not listen on {port}")
        yield
    finally:
        program.kill()
        program.wait()


def settings(quickstart: QuickstartUnderTest, port: int) -> str:
    """Has e-mails lead to an example, and passkeys be of it; its address."""
    url = f"http://localhost:{port}"
    changes = {
        "--site-url": f"{url}/",
        "--site-name": "Example",
        "--smtp-conn": SMTP,
        "--signup-email-confirm-from": "accounts@example.com",
        "--signup-email-welcome-from": "accounts@example.com",
        "--hash-secret-rounds": "1000",
        "--webauthn-rp-id": "localhost",
        "--webauthn-origins": url,
    }
    quickstart.junctor("edit-sso", "sso", *itertools.chain(*changes.items()))
    return url


@pytest.fixture
def application(quickstart: QuickstartUnderTest, mails: MailServer, chromium: Browser) -> Iterator[FlaskSite]:
    """The Flask application."""
    port = free_port()
    command = ["-m", "flask", "--app", str(EXAMPLES / "sso_flask" / "app"), "run", "--port", str(port)]
    environment = {
        "JUNCTOR_URL": quickstart.address,
        "SSO_APP": APP,
        "COOKIES_OVER_HTTP": "yes",
        "FLASK_SECRET_KEY": "of tests",
    }
    with running(command, port, **environment):
        yield FlaskSite(quickstart, mails, chromium, settings(quickstart, port))


@pytest.fixture
def page(quickstart: QuickstartUnderTest, mails: MailServer, chromium: Browser) -> Iterator[Page]:
    """The single page."""
    port = free_port()
    command = [
        str(EXAMPLES / "sso_spa" / "serve.py"),
        *("--port", str(port)),
        *("--cluster", quickstart.address),
        *("--app", APP),
    ]
    with running(command, port):
        yield Page(quickstart, mails, chromium, settings(quickstart, port))


def code(key: str, *, steps: int = 0) -> str:
    """What an authenticator with this key shows, or will show so many steps of 30 seconds later."""
    return pyotp.TOTP(key).at(int(time.time()), counter_offset=steps)


def test_users_of_the_application_log_in_with_a_code_and_change_their_password(
    application: FlaskSite,
) -> None:
    username, user = application.sign_up(), application.browser
    log_in = f"{application.url}/log-in"
    user.open(log_in)
    user.fill("main form", username=username, password="wrong password of somebody")
    user.sees("That did not work.")
    user.fill("main form", username=username, password=PASSWORD)
    user.sees(f"Hello {username}")

    user.click("#authenticator")
    key = user.find("#totp-key").text
    user.fill("main form", totp_code=code(key))
    user.sees("Recovery codes")
    assert len(user.driver.find_elements("css selector", ".codes li")) == 10
    user.open(f"{application.url}/account")
    user.sees("On: each log-in asks for a code, too.")

    user.fill("form[action='/password']", old_password=PASSWORD, new_password=NEW_PASSWORD)
    user.sees("Your password is changed")
    user.click("#log-out")
    user.sees("You are logged out.")
    user.open(f"{application.url}/account")
    assert user.driver.current_url == log_in

    user.fill("main form", username=username, password=PASSWORD)
    user.sees("That did not work.")
    user.fill("main form", username=username, password=NEW_PASSWORD)
    user.sees("Enter a code of your authenticator, too.")
    user.fill("main form", username=username, password=NEW_PASSWORD, totp_code=code(key, steps=1))
    user.sees(f"Hello {username}")
    assert not user.problems()
    cookie = user.driver.get_cookie("ust")
    assert cookie is not None
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")


def test_users_of_the_page_log_in_with_a_passkey_and_nothing_else(page: Page) -> None:
    username, user = page.sign_up(), page.browser
    user.open(page.url)
    with user.authenticator():
        user.fill("#log-in", username=username, password=PASSWORD)
        user.sees("Your account")
        user.sees(username)
        user.click("#passkey-add")
        user.sees("The passkey is added")
        user.click("#log-out")
        user.sees("You are logged out.")

        user.click("#passkey-log-in")
        user.sees("Your account")
        user.sees(username)
        user.fill("#password", old_password=PASSWORD, new_password=NEW_PASSWORD)
        user.sees("Your password is changed")

        user.click("#totp-begin")
        key = user.find("#totp-key").text
        user.fill("#totp-confirm", totp_code=code(key))
        user.sees("Recovery codes")

        user.click("#passkeys button")
        user.sees("The passkey is deleted.")
        user.click("#log-out")
        user.sees("You are logged out.")
        user.click("#passkey-log-in")
        user.sees("That is not right.")
    user.fill("#log-in", username=username, password=NEW_PASSWORD)
    user.sees("Enter a code of your authenticator, too.")
    user.fill("#log-in", username=username, password=NEW_PASSWORD, totp_code=code(key, steps=1))
    user.sees("Your account")
    assert not user.is_there("#recovery-codes li"), "what the page showed before the log-out"
    assert not user.problems()
