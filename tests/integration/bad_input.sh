#!/usr/bin/env bash
# Bad input: each gets one clear line on standard error, the right exit code, and nothing is damaged.
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"

# expect CODE PATTERN COMMAND...: the exit code, one line on standard error (steps apart) that matches.
expect() {
  local code=$1 pattern=$2 status=0
  shift 2
  "$@" >"$home/out" 2>"$home/err" || status=$?
  grep -v '^  ' "$home/err" >"$home/line" || true
  ((status == code)) || fail "exit code $status instead of $code: $*: $(cat "$home/err")"
  (($(wc -l <"$home/line") == 1)) || fail "not one line: $*: $(cat "$home/err")"
  grep -Eq "$pattern" "$home/line" || fail "'$(cat "$home/line")' does not match '$pattern'"
  note "ok: $(cat "$home/line")"
}

volume_file() { echo "$home/volumes/main.img"; }

main() {
  new_filer </dev/null
  local up=(filer up --mode host)

  note "a volume file that is missing"
  expect 4 'volume main: .*main.img: no such file.*filer volume create main' "${up[@]}"

  note "too small, and not ours"
  mkdir -p "$home/volumes"
  truncate -s 1M "$(volume_file)"
  expect 1 'main.img.*too small' "${up[@]}"
  head -c 80000000 /dev/urandom >"$(volume_file)"
  local before
  before=$(sha256sum <"$(volume_file)")
  expect 1 'main.img.*not a Nearmetal volume.*nothing was touched' "${up[@]}"
  expect 5 'main.img.*exists.*never overwritten' filer volume create main
  [[ $(sha256sum <"$(volume_file)") == "$before" ]] || fail "a foreign file was changed"
  rm "$(volume_file)"
  expect 1 'too small' filer volume create main --size 1M
  expect 2 'size' filer volume create main --size lots
  expect 2 "a,readonly=on.*holds ','" filer volume create main --path "$home/a,readonly=on"
  expect 2 "holds ','.*choose a home" filer --home "$home/a,b" volume create main

  note "a creation that is killed leaves a whole volume or none"
  killed_creations

  note "from a newer version"
  filer volume create main --size 256M
  cp --sparse=always "$(volume_file)" "$home/good.img"
  volume-forger "$(volume_file)"
  expect 1 'newer release.*nothing was touched' "${up[@]}"
  expect 1 'newer release' filer volume check main

  note "damaged: one label is enough, none is refused"
  cp --sparse=always "$home/good.img" "$(volume_file)"
  dd if=/dev/zero of="$(volume_file)" bs=4096 count=1 conv=notrunc status=none
  filer volume check main >/dev/null || fail "a volume with one good label is refused"
  cp --sparse=always "$home/good.img" "$(volume_file)"

  note "in use by another process"
  flock -F -x "$(volume_file)" sleep 60 &
  local holder=$!
  sleep 0.3
  expect 5 'main.img.*(in use|locked)' "${up[@]}"
  expect 5 'main.img.*(in use|locked)' filer volume check main
  kill "$holder"
  wait "$holder" 2>/dev/null || true

  note "a port in use"
  port-holder "$nfs_port" &
  holder=$!
  sleep 0.3
  expect 5 "$nfs_port.*in use.*nfs.port" "${up[@]}"
  kill "$holder"
  wait "$holder" 2>/dev/null || true

  note "a start that is killed: the next one, and down, end what it left"
  killed_start
  "${up[@]}"
  filer down
  killed_start
  filer down
  expect_nothing_left

  note "options that a running filer does not have"
  "${up[@]}"
  expect 5 'no guest \(mode host\).*filer down' filer up --accel tcg
  expect 5 'no guest \(mode host\).*filer down' "${up[@]}" --viommu
  expect 5 'mode host.*filer down' filer up --mode guest

  note "a volume that is served, and its control channel"
  expect_served_volume
  control_channel
  snapshots_over_nfs
  scrub_of_a_served_volume
  quotas_of_a_served_volume


  note "a service that died: status says so"
  "${up[@]}"
  kill -KILL "$(status_of '.services[] | select(.name == "ganesha") | .pid')"
  local deadline=$((SECONDS + 20))
  until [[ $(filer status --json 2>/dev/null | jq -r .state) == failed:* ]]; do
    ((SECONDS < deadline)) || fail "status does not say that the NFS server died"
    sleep 0.2
  done
  filer down
  expect_nothing_left

  note "a bridge that died: status says so, and up brings it back below the running services"
  "${up[@]}"
  local pid
  pid=$(state_pid filer)
  kill -KILL "$(state_pid bridge)"
  deadline=$((SECONDS + 20))
  until [[ $(filer status --json 2>/dev/null | jq -r .state) == failed:*bridge* ]]; do
    ((SECONDS < deadline)) || fail "status does not say that the bridge is gone"
    sleep 0.2
  done
  "${up[@]}"
  filer status >/dev/null || fail "not healthy after up"
  [[ $(state_pid filer) == "$pid" ]] || fail "the services were restarted"
  filer down
  expect_nothing_left

  note "no QEMU"
  mkdir "$home/path"
  ln -s /usr/bin/* /usr/sbin/* "$home/path/" 2>/dev/null || true
  rm -f "$home/path/qemu-system-x86_64"
  expect 4 'qemu.*not' env PATH="$home/path" "$bin/filer" up --mode guest

  note "a broken configuration"
  cp "$home/filer.toml" "$home/filer.good"
  printf '[nfs]\nprot = 2049\n' >"$home/filer.toml"
  expect 3 'filer.toml:2:[0-9]+: .*prot.*port' "${up[@]}"
  printf '[nfs\n' >"$home/filer.toml"
  expect 3 'filer.toml:1:[0-9]+: ' "${up[@]}"
  printf '[nfs]\nport = 99999\n' >"$home/filer.toml"
  expect 3 'filer.toml:2:[0-9]+: .*65535' "${up[@]}"
  cp "$home/filer.good" "$home/filer.toml"

  note "usage"
  expect 2 'frobnicate: no such command' filer frobnicate
  expect 2 'mode' filer up --mode sideways
  expect 2 'sim' filer test sim
  expect 6 'not running' filer status
  expect 6 'volume main: no running filer of .* serves it' filer volume scrub main
  expect 2 'NAME' filer volume scrub
  expect 2 'stop.*status|status.*stop' filer volume scrub main --stop --status
  expect 2 'stop.*background|background.*stop' filer volume scrub main --stop --background

  note "no space on the host's disk"
  no_space

  note "after all that the volume is sound"
  cp --sparse=always "$home/good.img" "$(volume_file)"
  expect_sound_volume
}

# Calls of the engine, by its own socket and through the agent: bad ones are refused by name.
control_channel() {
  local engine=$home/run/f/engine.sock agent=$home/run/agent.sock
  [[ $(stat -c %a "$engine") == 600 ]] || fail "the engine's socket has mode $(stat -c %a "$engine")"
  bridge-status "$engine" methods '{}' | jq -e '.methods | map(.name) | contains(["volume.show", "scrub.status"])' >/dev/null ||
    fail "the engine does not list its methods"
  expect 1 'volume.shrink: no such method' bridge-status "$engine" volume.shrink '{}'
  expect 1 'volume.show: parameter x is unknown; there is none' bridge-status "$engine" volume.show '{"x": 1}'
  expect 1 'mkdir: parameter path is missing' bridge-status "$engine" mkdir '{}'
  expect 1 'params must be an object' bridge-status "$engine" mkdir '[]'
  expect 1 'engine: method is missing' bridge-status "$agent" engine '{}'
  expect 1 'timeout_ms is no number from 1' bridge-status "$agent" engine '{"method": "methods", "timeout_ms": 0}'
  expect 1 'mkdir: parameter mode is not a number' bridge-status "$agent" engine '{"method": "mkdir", "params": {"path": "/a", "mode": -1}}'

  note "an engine that hangs: the agent answers, and commands end"
  local ganesha before=$SECONDS
  ganesha=$(status_of '.services[] | select(.name == "ganesha") | .pid')
  kill -STOP "$ganesha"
  expect 1 'no answer in time|nobody takes' bridge-status "$agent" engine '{"method": "volume.show", "timeout_ms": 500}'
  bridge-status "$agent" health '{}' | jq -e '.engine == null' >/dev/null || fail "the agent does not answer beside it"
  expect 1 'volume main: it is served, but its engine does not tell of it' filer volume show main
  ((SECONDS - before < 30)) || fail "it took $((SECONDS - before)) s"
  kill -CONT "$ganesha"
  expect_served_volume
}

# A client sees a snapshot below .snapshot, as the files were; rolled back, the fileset is that again.
snapshots_over_nfs() {
  note "snapshots: over NFSv3 and NFSv4, and rolled back"
  local old="$home/old" new="$home/new" version
  mkdir "$old" "$new"
  cp "$BASH_SOURCE" "$old/script" && head -c 300000 /dev/urandom >"$old/data"
  cp "$old/data" "$new/script" && cp "$BASH_SOURCE" "$new/data"
  filer-nfs copy "$old" "$(nfs_url 3)" /tree >/dev/null
  filer snapshot create monday | grep -q 'monday: made' || fail "snapshot create"
  expect 5 "there is a snapshot 'monday' already" filer snapshot create monday
  expect 1 "name 'a b': 1 to 63 letters" filer snapshot create 'a b'
  expect 4 "snapshot 'none' of fileset 'main': there is none" filer snapshot delete none
  expect 5 'rollback monday: what was written since would be lost.*--yes' filer snapshot rollback monday
  filer-nfs copy "$new" "$(nfs_url 3)" /tree >/dev/null
  for version in 3 4; do
    filer-nfs compare "$old" "$(nfs_url "$version")" /.snapshot/monday/tree || fail "NFSv$version: the snapshot differs"
    filer-nfs compare "$new" "$(nfs_url "$version")" /tree >/dev/null || fail "NFSv$version: the files differ"
  done
  filer snapshot list --json | jq -e '.snapshots | length == 1 and .[0].name == "monday" and .[0].unique_bytes > 300000' >/dev/null ||
    fail "snapshot list: $(filer snapshot list --json)"
  filer snapshot rollback monday --yes >/dev/null || fail "snapshot rollback"
  filer-nfs compare "$old" "$(nfs_url 3)" /tree >/dev/null || fail "rolled back, the files differ"
  filer snapshot delete monday >/dev/null || fail "snapshot delete"
  expect 5 'fileset delete main: its data would be lost' filer fileset delete main
  rm -r "$old" "$new"
}

quotas_of_a_served_volume() {
  filer quota set user 1000 --bytes-hard 10G --inodes-soft 5 --json | tee "$home/out" | jq -e '.bytes_hard == 10737418240 and .inodes_soft == 5' >/dev/null || fail "quota set: $(cat "$home/out")"
  expect 1 'the soft limit is above the hard one' filer quota set user 1000 --bytes-soft 11G
  expect 2 "bytes_hard 10X: not a size; write it as 512M" filer quota set user 1000 --bytes-hard 10X
  expect 2 "ID 'me': a number is wanted" filer quota show user me
  filer quota list --kind user | grep -Eq '^user +1000 +0 B +- +10' || fail "quota list: $(filer quota list)"
  filer quota set user 1000 --bytes-hard 0 --inodes-soft 0 >/dev/null || fail "quota set to none"
  filer quota grace group --bytes 3600 | grep -q '^group: 3600 s' || fail "quota grace"
}

scrub_of_a_served_volume() {
  filer volume scrub main --json | jq -e '.state == "finished" and (.findings | length) == 0' >/dev/null || fail "volume scrub: $(filer volume scrub main --status)"
}

# `filer volume create`, killed at many moments. Whatever is there afterwards is good, and a later creation is not in the way of it.
killed_creations() {
  local attempt creator status made=0
  for attempt in {1..40}; do
    "$bin/filer" volume create main >/dev/null 2>&1 &
    creator=$!
    sleep "0.0$(printf %02d "$attempt")"
    kill -KILL "$creator" 2>/dev/null || true
    wait "$creator" 2>/dev/null || true
    status=0
    filer volume show main >/dev/null 2>"$home/err" || status=$?
    ((status == 0 || status == 4)) || fail "a killed creation left a bad volume: $(cat "$home/err")"
    ((status != 0)) || { made=$((made + 1)) && rm "$(volume_file)"; }
  done
  note "$made of 40 were done before they were killed"
  filer volume create main
  [[ $(ls -A "$home/volumes") == main.img ]] || fail "more than the volume is left: $(ls -A "$home/volumes")"
  rm "$(volume_file)"
}

# `filer up`, killed when its agent listens.
killed_start() {
  local starter deadline=$((SECONDS + 30))
  "$bin/filer" up --mode host >/dev/null 2>&1 &
  starter=$!
  until [[ -S $home/run/agent.sock ]]; do
    kill -0 "$starter" 2>/dev/null && ((SECONDS < deadline)) || fail "the start got nowhere"
    sleep 0.01
  done
  kill -KILL "$starter"
  wait "$starter" 2>/dev/null || true
}

# A small file system that is full: creating a volume fails cleanly. A volume whose disk fills up while it is served gives clients an error,
# and status says so. When the disk has room again, `filer up` is enough, and what was acknowledged before is there.
no_space() {
  mkdir "$home/small"
  mount -t tmpfs -o size=256k tmpfs "$home/small"
  expect 1 'volume tight: .*(space|full)' filer volume create tight --size 1G --path "$home/small/tight.img"
  [[ -z $(ls "$home/small") ]] || fail "a half-made volume was left behind"
  mount -o remount,size=120m "$home/small"
  sed "s|^name = \"main\"|&\npath = \"$home/small/tight.img\"|" "$home/filer.good" >"$home/filer.toml"
  filer volume create main
  "${up[@]}"
  real_input 500 300000000
  journals=yes each_tree copy 3 >"$home/out" 2>&1 && fail "300 MB went onto a disk of 120 MB"
  note "clients saw: $(tail -n 1 "$home/out")"
  # Sooner or later the log itself finds no room: nothing is stored any more, and status says so.
  local deadline=$((SECONDS + 60))
  until [[ $(filer status --json 2>/dev/null | jq -r .state) == failed:*log:* ]]; do
    ((SECONDS < deadline)) || fail "status does not say that the volume takes no changes"
    each_tree copy 3 >/dev/null 2>&1 || true
  done
  expect 1 'failed: .*log: .*filer up' filer status
  mount -o remount,size=1g "$home/small"
  note "room again: one 'up' mends it"
  "${up[@]}"
  [[ $(status_of '.engine | .healthy') == true ]] || fail "not healthy after up"
  journals=yes each_tree compare 3
  journals=yes each_tree copy 3
  journals=yes each_tree compare 4
  filer down
  expect_sound_volume
  umount "$home/small"
  cp "$home/filer.good" "$home/filer.toml"
}

main
