#!/usr/bin/env bash
# Faults: the guest, and then the bridge, are killed in the middle of a copy. Everything that was acknowledged as stable must be there,
# the check finds nothing, and the copy goes on. Usage: faults.sh guest|bridge|host
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"
victim=${1:?guest, bridge or host}

# Starts a copy in the background and waits until the journal has $1 names.
copy_until() {
  filer-nfs copy "$source_folder" "$(nfs_url 3)" /real "${source_limits[@]}" --journal "$home/journal" \
    >"$home/copy.out" 2>&1 &
  copy_pid=$!
  touch "$home/journal"
  local deadline=$((SECONDS + 240))
  while (($(wc -l <"$home/journal") < $1)); do
    kill -0 "$copy_pid" 2>/dev/null || fail "the copy ended early: $(cat "$home/copy.out")"
    ((SECONDS < deadline)) || fail "the copy is too slow: $(wc -l <"$home/journal") files"
    sleep 0.05
  done
}

strike() {
  local pid
  pid=$(state_pid "$1")
  note "killing $1, pid $pid, after $(wc -l <"$home/journal") files"
  kill -KILL "$pid"
}

main() {
  local mode=guest
  [[ $victim == host ]] && mode=host
  new_filer </dev/null
  filer volume create main
  filer up --mode $mode
  real_input 2500 80000000
  copy_until 600
  case $victim in
    guest | host) strike filer ;;
    bridge) strike bridge ;;
  esac
  if [[ $victim != bridge ]]; then
    wait "$copy_pid" && fail "the copy did not notice that its server died"
    note "the copy ended: $(tail -n 1 "$home/copy.out")"
  fi
  filer up --mode $mode
  if [[ $victim == bridge ]]; then
    # The driver finds the bridge again and sends again what was under way: the copy may go on without noticing, or end with an error.
    wait "$copy_pid" || note "the copy ended: $(tail -n 1 "$home/copy.out")"
  fi
  note "comparing what was acknowledged: $(wc -l <"$home/journal") names"
  cp "$home/journal" "$home/journal.then"
  filer-nfs compare "$source_folder" "$(nfs_url 4)" /real "${source_limits[@]}" --journal "$home/journal.then"
  note "going on with the copy"
  filer-nfs copy "$source_folder" "$(nfs_url 3)" /real "${source_limits[@]}" --journal "$home/journal"
  filer-nfs compare "$source_folder" "$(nfs_url 4)" /real "${source_limits[@]}"
  filer down
  expect_nothing_left
  expect_sound_volume
}

main
