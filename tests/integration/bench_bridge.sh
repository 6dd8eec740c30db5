#!/usr/bin/env bash
# `filer bench bridge`, very small: every subject and backend runs, and what is written down is complete and plausible. Nothing here depends
# on how fast this machine is.
set -euo pipefail
source_dir=${FILER_SOURCE_DIR:?}
filer=${FILER_BUILD_DIR:?}/bin/filer
folder=$(mktemp -d /tmp/filer-bench-test-XXXXXX)
trap 'rm -rf "$folder"' EXIT
fail() { echo "bench_bridge: $*" >&2; exit 1; }
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
expect_usage nosuch nosuch
expect_usage --fast bridge --fast
expect_usage /nowhere/x.json bridge --json /nowhere/x.json
expect_usage --cores bridge --cores 0,0
expect_usage --seconds bridge --seconds nan

"$filer" bench bridge --help | grep -q -- --quick || fail "no help"

mkdir "$folder/volumes"
"$filer" bench bridge --quick --seconds 0.005 --repetitions 2 --depth 1 --depth 32 --block 4096 --folder "$folder/volumes" \
  --json "$folder/out.json" --html "$folder/out.html" >"$folder/table" || fail "it failed"

# holds FILTER: true of the document.
holds() { jq -e "$1" "$folder/out.json" >/dev/null || fail "does not hold: $1: $(jq -c .summary "$folder/out.json")"; }
holds '.schema == "filer.bench.bridge/1"'
holds '.machine | .cpus >= 2 and (.model | length > 0) and (.kernel | length > 0) and has("kvm_module")'
subjects='"bridge","bridge-packed","bridge-shared-core","direct","ping-pong","rte-vhost"'
command -v qemu-storage-daemon >/dev/null && subjects+=',"qemu-storage-daemon"'
command -v fio >/dev/null && subjects+=',"fio"'
holds "([.runs[].subject] | unique) == ([$subjects] | sort)"
holds '.runs | map(select(.subject == "bridge")) | map(.backend) | unique == ["file","memory","null"]'
holds '.runs | all(.iops > 0 and .ios > 0 and .latency_us.p50 > 0 and .latency_us.p99 >= .latency_us.p50 and .latency_us.p999 >= .latency_us.p99)'
holds '.runs | all(.cpu_us_per_op > 0 and .kicks_per_io >= 0 and .interrupts_per_io >= 0)'
holds '.runs | map(select(.subject == "bridge")) | all(.copied_bytes_per_io == 0)'
holds '.runs | map(select(.subject != "ping-pong")) | all((.spread.iops.min <= .iops) and (.iops <= .spread.iops.max))'
holds '.summary | [.added_latency_us.p50, .added_latency_us.p99, .added_latency_round_trips.p50, .added_latency_round_trips.p99] | all(type == "number")'
holds '.summary | [.ping_pong_ns, .iops_per_poller.null, .iops_per_poller.memory, .iops_per_poller.file] | all(. > 0)'
holds '.summary | .kicks_per_io != null and .interrupts_per_io != null'
command -v qemu-storage-daemon >/dev/null && holds '.summary.ratio_to_qemu_storage_daemon | .iops > 0 and .latency > 0'
# One of twenty first requests may find the target awake on a machine that stood still in between: what is held is that they count.
holds '.summary | .idle_cpu_percent >= .idle_target_cpu_percent and .idle_target_cpu_percent >= 0 and .first_request_us > 0'
holds '.idle.first_requests | length == 20 and (map(.doorbells) | all(. <= 1) and add >= 10)'
holds '.summary.split_to_packed | .worst > 0 and .median >= .worst'
if command -v fio >/dev/null; then
  holds '.summary.file_to_fio | .worst > 0 and .median >= .worst and (.worst_cell | length > 0)'
  holds '.runs | map(select(.subject == "fio")) | length > 0 and all(.backend == "file")'
fi
# A guest runs when there is an image of one, which other tests make; else it is said.
holds '(.functional | length) + ([.skipped[] | select(.subject == "linux-driver")] | length) > 0'
holds '.functional | all(.ios >= 800 and .kicks_per_io >= 0 and .kicks_per_io <= 2 and .interrupts_per_io >= 0 and (has("iops") | not))'

grep -q "Targets" "$folder/table" || fail "no verdicts: $(cat "$folder/table")"
grep -q "<svg" "$folder/out.html" || fail "no plots"
[[ -z $(ls -A "$folder/volumes") ]] || fail "left behind: $(ls "$folder/volumes")"

# A machine without fio: said, and everything else measured. The folder has all that PATH has but fio.
mkdir "$folder/path"
for dir in /usr/bin /bin; do
  for program in qemu-storage-daemon fio; do [[ $program != fio && -x $dir/$program ]] && ln -sf "$dir/$program" "$folder/path/"; done
done
PATH=$folder/path "$filer" bench bridge --subject bridge --subject fio --backend file --depth 1 --block 4096 --workload read \
  --seconds 0.005 --repetitions 1 --folder "$folder/volumes" >"$folder/table" || fail "it failed without fio"
grep -q "Not measured: fio, file: fio is not installed" "$folder/table" || fail "not said: $(cat "$folder/table")"

# Stopped in the middle of a row it ends soon, and leaves nothing, neither files nor processes.
status=0
timeout -s INT -k 12 3 "$filer" bench bridge --seconds 60 --backend memory --folder "$folder/volumes" >"$folder/out" 2>"$folder/err" || status=$?
((status == 124)) || fail "not stopped in time: $status: $(cat "$folder/err")"
grep -q "stopped before the end" "$folder/err" || fail "stopped without a word: $(cat "$folder/err")"
[[ -z $(ls -A "$folder/volumes") ]] || fail "left behind: $(ls "$folder/volumes")"
echo "ok: $source_dir"
