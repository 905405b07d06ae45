#!/usr/bin/env bash
# From the sources as git archives them to a trained model that is served, and the tests; as a person who is not root, in a path with
# a space; first without libgomp1, then with it. `once`: and the tests; `served`: no tests.
set -euo pipefail
how=$1
home="/home/person/a folder/hourcast"
began=$SECONDS
say() { printf '== %4d s  %s\n' "$((SECONDS - began))" "$1"; }
person() { # what is typed, in the folder
  su person -c "cd '$home' && $1"
}

say "$(python3 --version) on $(. /etc/os-release && echo "$PRETTY_NAME"), $(df -h --output=avail /home | tail -n 1 | tr -d ' ') free"
if ldconfig -p | grep -q libgomp; then echo "libgomp1 is here already; a bare machine has none" >&2; exit 1; fi
say "make up SOURCE=sample, without libgomp1"
if person "make up SOURCE=sample" >/tmp/first.log 2>&1; then cat /tmp/first.log; echo "it should have ended with a sentence" >&2; exit 1; fi
cat /tmp/first.log
grep -q "apt-get install libgomp1" /tmp/first.log
apt-get install -y -qq --no-install-recommends libgomp1 >/dev/null
say "$(du -sh "$home/.venv" | cut -f1) in .venv; make up SOURCE=sample"
person "python3 /serve.py make up SOURCE=sample"
say "the same again"
person "python3 /serve.py make up SOURCE=sample"
if [ "$how" = once ]; then
  say "make test"
  person "make test"
fi
say "done"
rm -rf "$home"
