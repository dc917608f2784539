#!/usr/bin/env bash
# All that has to be run on a bare machine with an accelerator, from a checkout with `wheelhouse/`
# (make wheelhouse) in it:
#
#     tests/accelerator/device.sh OUTPUT [MINUTES] [flags of python -m tests.accelerator ...]
#
# Runs the suite and packs its results into OUTPUT/accelerator.tar.gz, below 15 MiB, with
# OUTPUT/summary.md beside it, every 20 seconds ($EVERY) and at the end; ends with the exit code of
# the suite. $DATA (data/ by default) is a folder with mnist/ and tfds/cifar10/, if there is one; an
# archive of that which travelled in parts, cifar10.tar.part-*, is put together and unpacked there
# first. $WHEELHOUSE and $PYTHON are others than wheelhouse/ and python3.
set -uo pipefail
output=$(realpath -m "${1:?give the folder for the results}")
cd "$(dirname "$0")/../.."
minutes=${2:-8}
shift $(($# > 2 ? 2 : $#))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

data=${DATA:-data} wheelhouse=${WHEELHOUSE:-wheelhouse} python=${PYTHON:-python3}
flags=()
if compgen -G "$wheelhouse/*.whl" >/dev/null; then flags+=("--wheelhouse=$wheelhouse"); fi
if compgen -G "$data/cifar10.tar.part-*" >/dev/null; then
    cat "$data"/cifar10.tar.part-* | tar -x -C "$data" && rm "$data"/cifar10.tar.part-*
fi
if [ -d "$data" ]; then flags+=("--data_dir=$data"); fi
# A package of the machine that installed its own `tests` would hide this one.
"$python" -c 'import sys, tests; sys.exit(getattr(tests, "__file__", None) is not None)' ||
    touch tests/__init__.py

pack() {  # small whatever the parts kept, and whole at every moment
    cp "$work/results/summary.md" "$output/" 2>/dev/null
    tar -cz -C "$work" -f "$work/packed" results
    if [ "$(stat -c %s "$work/packed")" -gt $((15 << 20)) ]; then  # without traces and runs
        tar -cz -C "$work" --exclude=results/kept -f "$work/packed" results
    fi
    cp "$work/packed" "$output/.new" && mv "$output/.new" "$output/accelerator.tar.gz"
}

mkdir -p "$output" "$work/results"
"$python" -m tests.accelerator --output="$work/results" --minutes="$minutes" "${flags[@]}" "$@" &
suite=$!
trap 'kill -TERM $suite 2>/dev/null' TERM INT
while kill -0 $suite 2>/dev/null; do  # now and then, should the machine be taken away
    sleep "${EVERY:-20}" &
    wait -n $suite $!
    pack
done
wait $suite
code=$?
pack
ls -l "$output"
exit $code
