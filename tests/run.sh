#!/usr/bin/env bash
# Installs what the tests need, runs the linters, the type checker and all tests, and says how it went.
#
#   ./tests/run.sh            everything; as root, it installs Debian's Chromium for tests of pages, too
#   ./tests/run.sh unit       linters, types, style and unit tests: what to run before each commit
#   ./tests/run.sh lint       linters and types alone
#   ./tests/run.sh PATH...    these tests alone (arguments of pytest)
#   ./tests/run.sh lock       writes deploy/constraints.txt anew, with the newest versions that setup.py allows
#
# It exits with 0 only if everything is well; the last line is 'N passed, N failed', what failed is above it.  Tests that wait more than
# they compute run in several suites at once, behind the linters and the unit tests; their output is in .tests/, and shown at the end.
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
# What sql/ is measured with: coverage is demanded of it.
MEASURED=(tests/integration/sql tests/integration/sso/test_sso_rekey.py)
DEADLINE=$(($(date +%s) + ${JUNCTOR_TESTS_TIMEOUT:-1200}))
STEP=0
TOTAL=2
FAILED=()
SUITES=()
SUITE_PIDS=()

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

# browser: Chromium and its driver, for tests of pages; Debian's packages, which root installs if they are not there.
browser() {
  if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
    say "Chromium is installed."
  elif [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    limited apt-get update -qq &&
      DEBIAN_FRONTEND=noninteractive limited apt-get install -qq --no-install-recommends chromium chromium-driver >/dev/null
  else
    say "Tests of pages need Chromium and its driver: sudo apt-get install chromium chromium-driver"
    return 1
  fi
}

# begin_browser: the same in the background, while Python's packages are installed; see end_browser.
begin_browser() {
  browser >"$OUT/browser.log" 2>&1 &
  BROWSER_PID=$!
}

end_browser() {
  local status=0
  wait "$BROWSER_PID" || status=$?
  say "$(cat "$OUT/browser.log")"
  return "$status"
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

# tests NAME ARGUMENT...: pytest, with its results in .tests/NAME.xml.
tests() {
  limited "$BIN/python" -m pytest -q --junit-xml="$OUT/$1.xml" "${@:2}"
}

# measured NAME ARGUMENT...: the same, with coverage, which makes tests several times slower.
measured() {
  limited "$BIN/python" -m coverage run -m pytest -q --junit-xml="$OUT/$1.xml" "${@:2}"
}

# begin SUITE ARGUMENT...: pytest in the background, with its output in .tests/SUITE.log.
# Without env it would ignore SIGINT, as everything does that a script starts in the background.
begin() {
  env --default-signal=INT timeout --foreground --signal=INT --kill-after=60 $((DEADLINE - $(date +%s))) \
    "$BIN/python" -m pytest -q --junit-xml="$OUT/$1.xml" "${@:2}" >"$OUT/$1.log" 2>&1 &
  SUITES+=("$1")
  SUITE_PIDS+=($!)
}

# begin_suites: everything but the quick tests and those that are measured, in suites that take about as long as each other.
# Each has stores and a cluster of its own.  What belongs to no other suite is in the last one.
begin_suites() {
  begin end_to_end tests/end_to_end
  begin servers tests/integration/server tests/integration/websocket tests/contract
  begin chaos tests/chaos tests/integration/http_worker
  begin others tests --ignore=tests/style --ignore=tests/unit --ignore=tests/bench --ignore=tests/end_to_end \
    --ignore=tests/integration/server --ignore=tests/integration/websocket --ignore=tests/contract --ignore=tests/chaos \
    --ignore=tests/integration/http_worker "${MEASURED[@]/#/--ignore=}"
}

# end_suites: shows what they have come to, one after another.
end_suites() {
  local number status=0
  measured sql "${MEASURED[@]}" || status=1
  for number in "${!SUITES[@]}"; do
    wait "${SUITE_PIDS[number]}" || status=1
    say "${SUITES[number]}:" "$(cat "$OUT/${SUITES[number]}.log")"
  done
  SUITES=() SUITE_PIDS=()
  return "$status"
}

# stop_suites: they are told to end, and do so in good order; nothing of them counts.
stop_suites() {
  local number
  for number in "${!SUITES[@]}"; do
    kill -INT "${SUITE_PIDS[number]}" 2>/dev/null || true
  done
  for number in "${!SUITES[@]}"; do
    wait "${SUITE_PIDS[number]}" || true
    rm -f "$OUT/${SUITES[number]}.xml"
  done
  SUITES=() SUITE_PIDS=()
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

# quick_tests_with_coverage: the same tests, those of what coverage is demanded of with it.
quick_tests_with_coverage() {
  local folders=(tests/unit/sql tests/unit/security) status=0
  tests unit tests/style tests/unit "${folders[@]/#/--ignore=}" || status=1
  measured unit_measured "${folders[@]}" || status=1
  return "$status"
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
  all) TOTAL=10 ;;
  unit) TOTAL=7 ;;
  lint) TOTAL=6 ;;
  *) TOTAL=3 ;;
esac

rm -rf "$OUT"
mkdir -p "$OUT"
[[ ${1:-all} != all ]] || begin_browser
step "Python environment" environment || not_begun
step "packages" packages || not_begun
[[ ${1:-all} != all ]] || step "browser" end_browser || true
case ${1:-all} in
  lint) lints ;;
  unit) lints; quick_tests || true ;;
  all)
    trap stop_suites EXIT
    begin_suites
    lints
    if step "unit tests" quick_tests_with_coverage; then
      step "all other tests" end_suites || true
      step "coverage" coverage_report || true
    else
      stop_suites
      say "All other tests were stopped, and coverage was not looked at: the unit tests come first."
    fi
    ;;
  *) step "tests" tests chosen "$@" || true ;;
esac
finish
