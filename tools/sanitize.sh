#!/bin/sh
# sanitize.sh PYTHON: the tests of the compiled kernels under the address and undefined-behaviour sanitizers.
# The library is built anew afterwards, without them.
set -eu
library=wage_neuro/kernels/libwage.so
trap 'rm -f $library; "$1" -m wage_neuro.kernels.build' EXIT
"$1" -m wage_neuro.kernels.build --sanitize
compiler=$(command -v c++ || command -v g++)
LD_PRELOAD="$("$compiler" -print-file-name=libasan.so) $("$compiler" -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:handle_segv=1 OMP_NUM_THREADS=1 \
	"$1" -m pytest -q -x -p no:faulthandler tests/agreement/test_compiled.py -k 'not fork and not broken'
