"""Chromium without a window, as a user would have it: nothing is remembered, and nothing is downloaded."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PROGRAMS = ("chromium", "chromedriver")
TIMEOUT = 60.0  # seconds
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--window-size=1100,1000",
)


class Browser:
    """A page, by what its user sees: labels, buttons, messages."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Goes to a page."""
        self.driver.get(url)

    def find(self, selector: str) -> WebElement:
        """What is visible on the page, or is so soon."""
        found: list[WebElement] = []

        def is_there(driver: webdriver.Chrome) -> bool:
            found[:] = [
                item for item in driver.find_elements(By.CSS_SELECTOR, selector) if item.is_displayed()
            ]
            return bool(found)

        self._wait(is_there, f"There is no {selector}")
        return found[0]

    def fill(self, form: str, **fields: str) -> None:
        """Fills a form in, by the names of its fields, and sends it."""
        for name, value in fields.items():
            field = self.find(f"{form} [name={name}]")
            field.clear()
            field.send_keys(value)
        self.click(f"{form} button[type=submit]")

    def click(self, selector: str) -> None:
        """Clicks, once that is possible."""
        element = self.find(selector)
        self._wait(lambda _: element.is_enabled(), f"{selector} stays disabled")
        element.click()

    def sees(self, text: str) -> None:
        """The page has this text, or soon has."""
        self._wait(
            lambda driver: text in driver.find_element(By.TAG_NAME, "body").text, f"There is no {text!r}"
        )

    def sees_field(self, name: str) -> None:
        """The page has a field of this name with something in it, or soon has."""
        field = f"[name={name}]"
        self._wait(lambda _: self.find(field).get_attribute("value"), f"{field} stays empty")

    def is_there(self, selector: str) -> bool:
        """Whether something is visible now."""
        return any(item.is_displayed() for item in self.driver.find_elements(By.CSS_SELECTOR, selector))

    def problems(self) -> list[str]:
        """What the browser complained of since it was asked last, such as scripts that the page does not allow.

        That an API refuses something is no problem.
        """
        logged = self.driver.get_log("browser")
        return [entry["message"] for entry in logged if entry["source"] not in ("network", "recommendation")]

    @contextmanager
    def authenticator(self) -> Iterator[None]:
        """A built-in authenticator, whose user has looked at the camera each time."""
        options = VirtualAuthenticatorOptions(
            transport=VirtualAuthenticatorOptions.Transport.INTERNAL,
            has_resident_key=True,
            has_user_verification=True,
            is_user_verified=True,
        )
        self.driver.add_virtual_authenticator(options)
        try:
            yield
        finally:
            self.driver.remove_virtual_authenticator()

    def _wait(self, condition, message: str) -> None:
        def tried(driver: webdriver.Chrome) -> bool:
            return bool(condition(driver))

        shown = f"{message} on {self.driver.current_url}."
        try:
            WebDriverWait(self.driver, TIMEOUT, 0.05, [StaleElementReferenceException]).until(tried)
        except TimeoutException:
            body = self.driver.find_element(By.TAG_NAME, "body").text
            pytest.fail(f"{shown}\n{body}\n{self.driver.get_log('browser')}")


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser, which ends with the test."""
    programs = {name: shutil.which(name) for name in PROGRAMS}
    if missing := [name for name, path in programs.items() if path is None]:
        pytest.fail(f"Browser tests need {' and '.join(missing)}: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory(prefix="junctor-browser-", ignore_cleanup_errors=True) as directory:
        options = webdriver.ChromeOptions()
        options.binary_location = str(programs["chromium"])
        for option in (*OPTIONS, f"--user-data-dir={Path(directory) / 'profile'}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(str(programs["chromedriver"])))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
