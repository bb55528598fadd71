#!/bin/sh
# Runs uv: the one on PATH, or else one installed into .venv-uv by any Python 3.
uv --version >/dev/null 2>&1 && exec uv "$@"

uv=.venv-uv/bin/uv
pyenv=${PYENV_ROOT:-$(pyenv root 2>/dev/null || echo "$HOME/.pyenv")}
for python in python3 python /usr/bin/python3 "$pyenv"/versions/3.*/bin/python; do
    [ -x $uv ] && break
    "$python" -m pip install --quiet --target .venv-uv uv==0.13.9 2>/dev/null
done
[ -x $uv ] || { echo "tools/uv.sh: no uv, and no Python with pip to install it" >&2; exit 1; }
exec $uv "$@"
