#!/bin/sh
# tools/venv.sh FOLDER VERSION...
# Makes the virtual environment FOLDER with the first of these Python versions that runs here.
# One of that version that is there already and works is kept.
folder=$1
shift

# A version manager's python3.10 may be there and yet refuse to run, so ask it.
is() {
    "$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null
}

pyenv=${PYENV_ROOT:-$(pyenv root 2>/dev/null || echo "$HOME/.pyenv")}
for version; do
    is "$folder/bin/python" "$version" && "$folder/bin/python" -m pip --version >/dev/null 2>&1 && exit
    for python in "python$version" python3 python "$pyenv/versions/$version".*/bin/python; do
        is "$python" "$version" && "$python" -m venv --clear "$folder" && exit
    done
done
exit 1
