#!/usr/bin/env bash
# `filer bench engine`, very small: every subject and backend runs, what is written down is complete and plausible, and nothing stays
# mounted, attached or lying about. Nothing here depends on how fast this machine is.
set -euo pipefail
source_dir=${FILER_SOURCE_DIR:?}
filer=${FILER_BUILD_DIR:?}/bin/filer
folder=$(mktemp -d /tmp/filer-bench-test-XXXXXX)
trap 'rm -rf "$folder"' EXIT
fail() { echo "bench_engine: $*" >&2; exit 1; }
command -v jq >/dev/null || { echo "jq is not installed: not tested"; exit 77; }
(($(nproc) >= 2)) || { echo "one processor: not tested"; exit 77; }

# expect_usage PATTERN WORDS...: exit code 2 and one line.
expect_usage() {
  local pattern=$1 status=0
  shift
  "$filer" bench "$@" >"$folder/out" 2>"$folder/err" || status=$?
  ((status == 2)) || fail "exit code $status instead of 2: bench $*"
  (($(wc -l <"$folder/err") == 1)) || fail "not one line: $(cat "$folder/err")"
  grep -q -- "$pattern" "$folder/err" || fail "no '$pattern' in: $(cat "$folder/err")"
}
expect_usage --fast engine --fast
expect_usage /nowhere/x.json engine --json /nowhere/x.json
expect_usage zfs engine --subject zfs
expect_usage --threads engine --threads 3
expect_usage "nothing to measure" engine --quick --workload lookup --threads 32
"$filer" bench engine --help | grep -q -- --quick || fail "no help"

mkdir "$folder/volumes" "$folder/tmp"
export TMPDIR=$folder/tmp
clean() {
  [[ -z $(ls -A "$folder/volumes" "$folder/tmp" | grep -v :) ]] || fail "left behind: $(ls "$folder/volumes" "$folder/tmp")"
  ! grep -q "$folder" /proc/self/mountinfo || fail "still mounted: $(grep "$folder" /proc/self/mountinfo)"
  ! grep -qs "$folder" /sys/block/loop*/loop/backing_file || fail "still attached: $(grep -s "$folder" /sys/block/loop*/loop/backing_file)"
}
"$filer" bench engine --quick --seconds 0.01 --repetitions 2 --folder "$folder/volumes" \
  --json "$folder/out.json" --html "$folder/out.html" >"$folder/table" || fail "it failed"
clean

# holds FILTER: true of the document.
holds() { jq -e "$1" "$folder/out.json" >/dev/null || fail "does not hold: $1: $(jq -c '.summary, .skipped' "$folder/out.json")"; }
holds '.schema == "filer.bench.engine/1"'
holds '.machine | .cpus >= 2 and (.model | length > 0) and (.kernel | length > 0) and has("kvm_module")'
holds '[.runs[].backend] | unique == ["file","memory"]'
# A file system of the kernel is measured on both backends, or it is said why not.
for subject in xfs ext4; do
  holds "[.runs[] | select(.subject == \"$subject\")] + [.skipped[] | select(.subject == \"$subject\" and (.reason | length > 0))] | map(.backend) | unique == [\"file\",\"memory\"]"
done
if ((EUID == 0)) && [[ -e /dev/loop-control ]] && command -v mkfs.xfs mkfs.ext4 >/dev/null && grep -qw xfs /proc/filesystems; then
  holds '[.runs[].subject] | unique == ["backend","ext4","nearmetal-bridge","nearmetal-direct","xfs"]'
  holds '.summary.vs_xfs.durable_create | .["8"] > 0 and .["32"] > 0'
fi
workloads='"create","lookup","mixed","overwrite","read-random","read-sequential","readdir","rename","stat","unlink","write-sequential"'
for subject in nearmetal-bridge nearmetal-direct; do
  holds "[.runs[] | select(.subject == \"$subject\" and .backend == \"file\").workload] | unique == [$workloads]"
done
holds '.runs | all(.repetitions == 2 and .iops > 0 and .ios > 0 and .threads >= 1 and .latency_us.p50 > 0 and .latency_us.p99 >= .latency_us.p50 and .latency_us.p999 >= .latency_us.p99)'
holds '.runs | all(.cpu_us_per_op >= 0 and .spread.iops.min <= .iops and .iops <= .spread.iops.max)'
holds '.runs | map(select(.block_bytes > 0)) | all(.mb_per_s > 0)'
holds '.runs | map(select(.subject == "nearmetal-bridge")) | all(.kicks_per_io >= 0 and .copied_bytes_per_io >= 0)'
# What is read is handed out where it lies.
holds '.runs | map(select(.subject == "nearmetal-direct" and .workload == "read-sequential")) | all(.copied_bytes_per_io == 0)'
holds '.summary | [.sequential_vs_backend.read, .sequential_vs_backend.write, .cached_lookup_us, .readdir_ns_per_entry, .recovery_s] | all(. > 0)'
holds '.summary | .bridge_overhead_percent > -100 and has("mb_per_million_inodes") and has("create_p99_during_checkpoint_ratio")'
holds '.probes.inodes | .count >= 199000 and .recovered_groups > 0'
holds '.summary.backend == "file" and (.summary.by_backend | keys == ["file","memory"])'
holds '.summary.targets | length >= 12 and all(has("met"))'
holds '.skipped | any(.reason | test("snapshot"))'
grep -q "Targets" "$folder/table" || fail "no verdicts: $(cat "$folder/table")"
grep -q "<svg" "$folder/out.html" || fail "no plots"

# As somebody else than root: said, and ours measured.
if ((EUID == 0)) && command -v setpriv >/dev/null; then
  mkdir -m 0777 "$folder/theirs"
  chmod 0777 "$folder/tmp"
  chmod 0755 "$folder"
  if setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$filer"; then
    setpriv --reuid 65534 --regid 65534 --clear-groups "$filer" bench engine --subject nearmetal-direct --subject xfs --backend memory \
      --threads 1 --workload stat --seconds 0.005 --repetitions 1 --folder "$folder/theirs" >"$folder/table" || fail "it failed without root"
    grep -q "Not measured: xfs, memory: mounts need root" "$folder/table" || fail "not said: $(cat "$folder/table")"
  fi
fi

# Stopped in the middle it leaves nothing, neither files nor mounts nor loop devices.
status=0
timeout -s INT 8 "$filer" bench engine --seconds 1 --folder "$folder/volumes" --backend file --workload stat --workload create >"$folder/out" 2>"$folder/err" || status=$?
((status == 124)) || fail "not stopped in time: $status: $(cat "$folder/err")"
grep -q "stopped before the end" "$folder/err" || fail "stopped without a word: $(cat "$folder/err")"
clean
# Killed, it leaves files, and nothing that is mounted or attached.
timeout -s KILL 8 "$filer" bench engine --seconds 1 --folder "$folder/volumes" --backend file --workload stat --workload create >"$folder/out" 2>&1 &&
  fail "not killed"
for ((i = 0; i < 100; ++i)); do
  grep -qs "$folder" /sys/block/loop*/loop/backing_file || break
  sleep 0.1
done
rm -rf "$folder/volumes" "$folder/tmp" && mkdir "$folder/volumes" "$folder/tmp"
clean
echo "ok: $source_dir"
