# lib.sh: what the integration tests share. Read by them, with $FILER_BUILD_DIR set (ctest does).
#
# Each test runs a filer of its own: a home in a temporary folder, free ports of 127.0.0.1, and a trap that ends whatever was
# started and removes the folder, also when the test fails.
set -euo pipefail
export LC_ALL=C

bin=${FILER_BUILD_DIR:?set by ctest}/bin
export PATH=$bin:$PATH
test_name=$(basename "$0" .sh)

fail() {
  echo "FAIL $test_name: $*" >&2
  exit 1
}
note() { printf '%s %s: %s\n' "$(date +%T)" "$test_name" "$*"; }

# A TCP port that nobody listens on. The range lies below that of outgoing connections (ip_local_port_range).
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 10000))
    [[ " $taken_ports " == *" $port "* ]] && continue
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue
    taken_ports+=" $port"
    echo "$port"
    return
  done
}
taken_ports=''

# Processes that name our home on their command line: the bridge, QEMU, the agent and its children. No one else's can.
ours() { pgrep -f -- "$home/" || true; }

cleanup() {
  local status=$? pid
  trap - EXIT
  if ((status != 0)); then
    for log in "$home"/run/*.log; do
      [[ -f $log ]] && { echo "--- last lines of $log"; tail -n 15 "$log"; }
    done
  fi
  filer --home "$home" down >/dev/null 2>&1 || true
  for pid in $(ours); do kill -KILL "$pid" 2>/dev/null || true; done
  while read -r mount_point; do umount -l "$mount_point"; done < <(mounts_below "$scratch")
  rm -rf --one-file-system "$scratch"
  declare -F at_end >/dev/null && at_end
  exit $status
}

# Mount points below a folder, the latest first; the kernel writes blanks in them as \040.
mounts_below() {
  local mount_point
  while read -r _ mount_point _; do
    printf -v mount_point %b "$mount_point"
    [[ $mount_point == "$1"/* ]] && echo "$mount_point"
  done < <(tac /proc/self/mounts)
  return 0
}

# A home with a configuration: $home, $nfs_port, $smb_port. Lines of standard input are added to it (at first to the export "share"),
# $guest_lines to the table of the guest. It is a new folder of $scratch, or one of the name $home_name in that. A test may declare
# at_end, which is called last of all.
new_filer() {
  scratch=$(mktemp -d /tmp/nm.XXXXXX)
  home=$scratch${home_name:+/$home_name}
  trap cleanup EXIT
  chmod 711 "$scratch"
  mkdir -p "$home"
  nfs_port=$(free_port)
  taken_ports+=" $nfs_port"
  smb_port=$(free_port)
  cat >"$home/filer.toml" <<TOML
[nfs]
port = $nfs_port
mount_port = $(free_port)
[smb]
port = $smb_port
[guest]
memory_mb = ${guest_memory_mb:-1024}
cpus = 2
${guest_lines:-}
[[volume]]
name = "main"
size = "${volume_size:-4G}"
[[export]]
name = "share"
squash = "none"
TOML
  cat >>"$home/filer.toml"
  export FILER_HOME=$home
}

nfs_url() { echo "nfs://127.0.0.1/share?nfsport=$nfs_port&mountport=$nfs_port&version=${1:-4}"; }

# A value of `filer status --json`, by a jq path.
status_of() { filer status --json | jq -r "$1"; }

state_pid() { jq -r ".$1.pid" "$home/run/state.json"; }

expect_sound_volume() {
  filer volume check main --data || fail "filer volume check found damage"
}

# What the running filer says of the volume "main" that it serves; what it must not do to it.
expect_served_volume() {
  local shown status=0
  shown=$(filer volume show main --json) || fail "volume show fails"
  jq -e '.schema == "filer.volume/1" and .served and .engine.health.ok and .engine.files > 1
    and .engine.space.used_bytes + .engine.space.free_bytes == .engine.space.total_bytes and .engine.space.free_bytes > 0 and .engine.log.used_bytes < .engine.log.bytes
    and .engine.commit_latency_us.count > 0 and .engine.commit_latency_us.p99 >= .engine.commit_latency_us.p50
    and (.engine.uuid | length) == 32 and (.uuid | length) == 36' <<<"$shown" >/dev/null || fail "volume show: $shown"
  filer volume show main | grep -Eq '^commits +p50 [0-9]+ us, p99 [0-9]+ us' || fail "volume show: $(filer volume show main)"
  [[ $(status_of .engine.statistics.commit_latency_us.count) -gt 0 ]] || fail "status has no commit latency"
  filer status | grep -q '^engine: .* files, commits p50' || fail "status: $(filer status)"
  filer volume check main >/dev/null 2>"$home/err" || status=$?
  ((status == 5)) && grep -q 'the running filer serves it.*filer down' "$home/err" ||
    fail "check of a served volume: exit code $status: $(cat "$home/err")"
}

# After `filer down` nothing may be left: no process, no mount, no file but the volume, the password and the configuration.
expect_nothing_left() {
  local left
  left=$(ours)
  [[ -z $left ]] || fail "processes left after down: $(ps -o pid=,args= -p $left)"
  [[ -z $(mounts_below "$home") ]] || fail "a mount is left after down: $(mounts_below "$home")"
  [[ ! -e $home/run ]] || fail "$home/run is left after down"
}

# Files that nobody here wrote: many small ones of one tree, and with them large ones of another. $1: files of the first tree, $2: bytes of
# the second. Sets the arrays that copy_trees and compare_trees work through.
real_input() {
  sources=(/usr/share /usr/lib)
  targets=(/real /large)
  limits=("--files $1" "--bytes $2 --file-bytes 40000000")
}

# Runs `filer-nfs VERB` for each tree, one journal each. Arguments: copy or compare, the NFS version, then options.
each_tree() {
  local verb=$1 version=$2 tree
  shift 2
  for tree in "${!sources[@]}"; do
    # shellcheck disable=SC2086 # limits are words
    filer-nfs "$verb" "${sources[$tree]}" "$(nfs_url "$version")" "${targets[$tree]}" ${limits[$tree]} --connections 8 "$@" \
      ${journals:+--journal "$home/journal.$tree"} || return 1
  done
}
journals=''  # not empty: with journals

# Starts a copy in the background and waits until the journal has $1 names.
copy_until() {
  (journals=yes each_tree copy 3) >"$home/copy.out" 2>&1 &
  copy_pid=$!
  touch "$home/journal.0"
  local deadline=$((SECONDS + 900))
  while (($(names) < $1)); do
    kill -0 "$copy_pid" 2>/dev/null || fail "the copy ended early: $(cat "$home/copy.out")"
    ((SECONDS < deadline)) || fail "the copy is too slow: $(names) files"
    sleep 0.05
  done
}

# How many names of the first tree are stable on the server.
names() { wc -l <"$home/journal.0"; }

# The image of the test client: Debian's kernel with its NFS and CIFS clients. Cached by its inputs.
client_image() {
  "${FILER_SOURCE_DIR:?}/filer-guest/image/build-image" --bin "$bin" --flavor client | tail -n 1
}
