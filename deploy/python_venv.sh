# For scripts to source: make_venv DIRECTORY makes a virtual environment, also where Debian has left ensurepip out of Python.
# $PYTHON says which Python, python3 by default.
# shellcheck shell=bash

make_venv() {
  local python=${PYTHON:-python3}
  if ! command -v "$python" >/dev/null; then
    echo "There is no $python; install Python 3.11 or newer, or set PYTHON." >&2
    return 1
  fi
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$("$python" --version) is too old; Junctor needs Python 3.11 or newer. Set PYTHON to one." >&2
    return 1
  fi
  "$python" -m venv "$1" >/dev/null 2>&1 && return
  rm -rf "$1"
  if "$python" -m virtualenv --version >/dev/null 2>&1; then
    "$python" -m virtualenv --quiet "$1"
  elif [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "This Python has no venv; installing Debian's python3-venv."
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends python3-venv >/dev/null
    "$python" -m venv "$1"
  else
    echo "This Python cannot make virtual environments. Install one of: 'apt-get install python3-venv' (as root)," \
      "or '$python -m pip install --user virtualenv'; then run this again." >&2
    return 1
  fi
}
