"""Hashes of one password, as other systems store them."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import bcrypt
from passlib import hash as passlib

PASSWORD = "pässword with spaces"


def _django_pbkdf2(name: str) -> str:
    made = hashlib.pbkdf2_hmac(name, PASSWORD.encode(), b"seasalt", 1000)
    return f"pbkdf2_{name}$1000$seasalt${b64encode(made).decode()}"


def bcrypted(password: bytes) -> str:
    """A hash by bcrypt."""
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


ARGON2 = passlib.argon2.using(rounds=1, memory_cost=64, parallelism=2)
HASHES = {
    "pbkdf2-sha512": passlib.pbkdf2_sha512.using(rounds=1000, salt_size=64).hash(PASSWORD),
    "pbkdf2-sha256": passlib.pbkdf2_sha256.using(rounds=1000).hash(PASSWORD),
    "pbkdf2-sha1": passlib.pbkdf2_sha1.using(rounds=1000).hash(PASSWORD),
    "scrypt": passlib.scrypt.using(rounds=4).hash(PASSWORD),
    "argon2id": ARGON2.hash(PASSWORD),
    "argon2i": ARGON2.using(type="I").hash(PASSWORD),
    "bcrypt": bcrypted(PASSWORD.encode()),
    "bcrypt-2y": bcrypted(PASSWORD.encode()).replace("$2b$", "$2y$"),
    "django-sha256": _django_pbkdf2("sha256"),
    "django-sha1": _django_pbkdf2("sha1"),
    "django-bcrypt": "bcrypt$" + bcrypted(PASSWORD.encode()),
    "django-bcrypt-sha256": "bcrypt_sha256$"
    + bcrypted(hashlib.sha256(PASSWORD.encode()).hexdigest().encode()),
    "django-argon2": "argon2" + ARGON2.hash(PASSWORD),
}
