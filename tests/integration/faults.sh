#!/usr/bin/env bash
# Faults: the guest, and then the bridge, are killed in the middle of a copy. Everything that was acknowledged as stable must be there,
# the check finds nothing, and the copy goes on. Usage: faults.sh guest|bridge|host
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"
victim=${1:?guest, bridge or host}

# Starts a copy in the background and waits until the journal has $1 names.
copy_until() {
  (journals=yes each_tree copy 3) >"$home/copy.out" 2>&1 &
  copy_pid=$!
  touch "$home/journal.0"
  local deadline=$((SECONDS + 240))
  while (($(names) < $1)); do
    kill -0 "$copy_pid" 2>/dev/null || fail "the copy ended early: $(cat "$home/copy.out")"
    ((SECONDS < deadline)) || fail "the copy is too slow: $(names) files"
    sleep 0.05
  done
}

names() { wc -l <"$home/journal.0"; }

strike() {
  local pid
  pid=$(state_pid "$1")
  note "killing $1, pid $pid, after $(names) files"
  kill -KILL "$pid"
}

main() {
  local mode=guest pid
  [[ $victim == host ]] && mode=host
  new_filer </dev/null
  filer volume create main
  filer up --mode $mode
  real_input 1500 30000000
  copy_until 500
  case $victim in
    guest) strike filer ;;
    host)
      # The file server itself; its agent too, or it would report the end and clean up.
      pid=$(status_of '.services[] | select(.name == "ganesha") | .pid')
      kill -KILL "$pid"
      strike filer
      ;;
    bridge) strike bridge ;;
  esac
  if [[ $victim != bridge ]]; then
    wait "$copy_pid" && fail "the copy did not notice that its server died"
    note "the copy ended: $(tail -n 1 "$home/copy.out")"
  fi
  filer up --mode $mode
  if [[ $victim == bridge ]]; then
    # The driver finds the bridge again and sends again what was under way: the copy goes on without noticing.
    wait "$copy_pid" || fail "the copy did not survive the bridge's restart: $(tail -n 1 "$home/copy.out")"
  fi
  note "comparing what was acknowledged: $(names) names"
  touch "$home/journal.1"
  journals=yes each_tree compare 4
  note "going on with the copy"
  journals=yes each_tree copy 3
  each_tree compare 4
  filer down
  expect_nothing_left
  expect_sound_volume
}

main
