"""A web application whose users log in through Single Sign-On: all of it goes over the REST API, from server to server.

    JUNCTOR_URL=http://127.0.0.1:11223 SSO_APP=CRM FLASK_SECRET_KEY=... python -m flask --app deploy/examples/sso_flask/app run

The browser never sees the API.  Its cookie has the session's token, which no script of a page can read (HttpOnly), and which goes to
this application alone.
"""

from __future__ import annotations

import hmac
import os
import secrets
from functools import wraps

import requests
from flask import Flask, abort, flash, g, redirect, render_template, request, session, url_for

JUNCTOR_URL = os.environ.get("JUNCTOR_URL", "http://127.0.0.1:11223")
SSO_APP = os.environ.get("SSO_APP", "CRM")
IS_SECURE = os.environ.get("COOKIES_OVER_HTTP") != "yes"  # for a first try on one's own machine
TOKEN_COOKIE = "__Host-ust" if IS_SECURE else "ust"
TIMEOUT = 15  # seconds
NOT_ALLOWED, TOTP_MISSING, STEP_UP, MUST_ENROL = "E005001", "E005008", "E005010", "E005011"
WHY = {
    "E001001": "This user name cannot be taken.",
    "E001002": "This user name is taken.",
    "E001004": "A user name has no spaces.",
    "E002001": "This e-mail address cannot be taken.",
    "E003001": "Choose another password: this one is refused.",
    "E003002": "Choose a longer password.",
    "E003008": "Choose a password that is harder to guess.",
    "E003009": "Choose another password: this one is among those that are tried first.",
    NOT_ALLOWED: "That did not work. Is everything spelled right?",
    "E005002": "The account is locked.",
    "E005003": "Confirm your e-mail address first.",
    "E005004": "Somebody has to approve the account first. You get an e-mail then.",
    TOTP_MISSING: "Enter a code of your authenticator, too.",
    "E005009": "Too many attempts: wait a little.",
    STEP_UP: "Your log-in was too long ago for this: log in again.",
    "E011001": "The code is wrong. Is it the one of this moment?",
}

app = Flask(__name__)
app.config.update(
    SECRET_KEY=os.environ["FLASK_SECRET_KEY"],
    SESSION_COOKIE_NAME="__Host-flask" if IS_SECURE else "flask",
    SESSION_COOKIE_SECURE=IS_SECURE,
    SESSION_COOKIE_HTTPONLY=True,
    SESSION_COOKIE_SAMESITE="Lax",
    MAX_CONTENT_LENGTH=100_000,
)
api = requests.Session()
api.trust_env = False


class Refused(Exception):
    """The API refused a call; ``codes`` say why."""

    def __init__(self, codes):
        super().__init__(" ".join(WHY.get(code, f"Refused ({code}).") for code in codes))
        self.codes = codes


def call(method, path, **fields):
    """The answer of the API; raises Refused.  Secrets are in the body or in a header, never in a URL."""
    headers = {"Authorization": f"Bearer {g.ust}"} if g.ust else {}
    body = {"current_app": SSO_APP, **fields}
    answer = api.request(
        method, f"{JUNCTOR_URL}/zato/sso/{path}", json=body, headers=headers, timeout=TIMEOUT
    )
    if answer.status_code == 400:
        raise Refused([NOT_ALLOWED])
    if answer.status_code not in (200, 403):
        answer.raise_for_status()
    data = answer.json()
    if data["status"] == "error":
        raise Refused(data.get("sub_status") or [NOT_ALLOWED])
    if data.get("ust"):
        g.ust = data["ust"]  # a new session, or the same one under a new token
    return data


@app.before_request
def begin():
    """The token of the session; and no form is taken that another site has sent."""
    g.ust = request.cookies.get(TOKEN_COOKIE, "")
    if request.method == "POST":
        expected, given = session.get("csrf", ""), request.form.get("csrf", "")
        if not expected or not hmac.compare_digest(expected.encode(), given.encode()):
            abort(400, "The form is too old. Go back, load the page again, and try once more.")


@app.after_request
def end(response):
    if g.get("ust") != request.cookies.get(TOKEN_COOKIE, ""):
        if g.ust:
            response.set_cookie(
                TOKEN_COOKIE, g.ust, secure=IS_SECURE, httponly=True, samesite="Lax", path="/"
            )
        else:
            response.delete_cookie(TOKEN_COOKIE, secure=IS_SECURE, httponly=True, samesite="Lax", path="/")
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    )
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response


@app.context_processor
def for_templates():
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(32)
    return {"csrf": session["csrf"], "is_logged_in": bool(g.get("ust"))}


def form(*names):
    """Fields of the form that were filled in."""
    return {name: request.form[name].strip() for name in names if request.form.get(name, "").strip()}


def passwords(*names):
    """The same, as they are: a password may begin with a space."""
    return {name: request.form[name] for name in names if request.form.get(name)}


def forms(template):
    """A page with forms: a refusal is shown above it, and what was typed stays, without passwords."""

    def decorate(view):
        @wraps(view)
        def wrapper(**arguments):
            if request.method == "GET":
                return render_template(template, **arguments)
            try:
                return view(**arguments)
            except Refused as refused:
                flash(str(refused), "error")
                needs_code = TOTP_MISSING in refused.codes
                return render_template(template, needs_code=needs_code, **arguments), 403

        return wrapper

    return decorate


@app.get("/")
def home():
    return redirect(url_for("account" if g.ust else "log_in"))


@app.route("/sign-up", methods=["GET", "POST"])
@forms("sign_up.html")
def sign_up():
    call("POST", "user/signup", app_list=[SSO_APP], **form("username", "email"), **passwords("password"))
    flash("Thank you. Look into your mailbox!")
    return redirect(url_for("confirm"))


@app.route("/confirm", methods=["GET", "POST"])
@forms("confirm.html")
def confirm():
    """The token of the e-mail's link is behind its #, so confirm.js puts it into the form.

    Whoever only looks at the link, as programs that search mail for viruses do, confirms nothing.
    """
    call("PATCH", "user/signup", **form("confirm_token"))
    flash("Your e-mail address is confirmed. You can log in once the account is approved.")
    return redirect(url_for("log_in"))


@app.route("/log-in", methods=["GET", "POST"])
@forms("log_in.html")
def log_in():
    g.ust = ""
    call("POST", "user/login", **form("username", "totp_code"), **passwords("password"))
    session["csrf"] = secrets.token_urlsafe(32)
    return redirect(url_for("account"))


@app.get("/account")
def account():
    """Who is logged in; without a valid session, the way to the log-in."""
    try:
        user = call("GET", "user")
    except Refused as refused:
        if MUST_ENROL in refused.codes:
            flash("You need a second factor here: set an authenticator up.", "error")
            return render_template("account.html", user={})
        g.ust = ""
        return redirect(url_for("log_in"))
    return render_template("account.html", user=user)


def then_account(change):
    """A form of the account's page: says what came of it, there."""

    @wraps(change)
    def wrapper():
        try:
            return change() or redirect(url_for("account"))
        except Refused as refused:
            flash(str(refused), "error")
            return redirect(url_for("log_in" if STEP_UP in refused.codes else "account"))

    return wrapper


@app.post("/password")
@then_account
def password():
    call("PATCH", "user/password", **passwords("old_password", "new_password"))
    flash("Your password is changed, and you are logged out everywhere else.")


@app.post("/authenticator")
@then_account
def begin_authenticator():
    return render_template("authenticator.html", made=call("POST", "user/totp"))


@app.post("/authenticator/confirm")
@then_account
def confirm_authenticator():
    done = call("POST", "user/totp/confirm", **form("totp_code"))
    return render_template("recovery_codes.html", codes=done["recovery_codes"])


@app.post("/log-out")
def log_out():
    call("POST", "user/logout", ust=g.ust)
    g.ust = ""
    session.clear()
    flash("You are logged out.")
    return redirect(url_for("log_in"))
