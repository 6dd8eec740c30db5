#!/usr/bin/env bash
# Faults: the bridge, or the file server on the host, is killed in the middle of a copy. Everything that was acknowledged as stable must
# be there, the check finds nothing, and the copy goes on. (The guest is killed in guest_serves_real_files.sh.) Usage: faults.sh bridge|host
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"
victim=${1:?bridge or host}

strike() {
  local pid
  pid=$(state_pid "$1")
  note "killing $1, pid $pid, after $(names) files"
  kill -KILL "$pid"
}

main() {
  local mode=guest files=1000 pid
  [[ $victim == host ]] && mode=host files=3000
  new_filer </dev/null
  filer volume create main
  filer up --mode $mode
  real_input $files 20000000
  copy_until $((files * 2 / 5))
  case $victim in
    host)
      # The file server itself; its agent too, or it would report the end and clean up.
      pid=$(status_of '.services[] | select(.name == "ganesha") | .pid')
      kill -KILL "$pid"
      strike filer
      ;;
    # Only the daemon: its keeper brings it back, and nobody has to run anything.
    bridge)
      pid=$(status_of .bridge.pid)
      note "killing the bridge, pid $pid, after $(names) files"
      kill -KILL "$pid"
      ;;
  esac
  if [[ $victim != bridge ]]; then
    wait "$copy_pid" && fail "the copy did not notice that its server died"
    note "the copy ended: $(tail -n 1 "$home/copy.out")"
  fi
  if [[ $victim == host ]]; then
    filer up --mode host
  else
    # The driver finds the bridge again and sends again what was under way: the copy goes on without noticing.
    wait "$copy_pid" || fail "the copy did not survive the bridge's restart: $(tail -n 1 "$home/copy.out")"
    [[ $(status_of .bridge.keeper.restarts) == 1 ]] || fail "status does not tell of the restart"
    pid=$(status_of .bridge.pid)
    note "another program for the bridge, which serves, and one that does not"
    cp "$bin/host-bridge" "$home/host-bridge"
    filer bridge upgrade --program "$home/host-bridge"
    [[ $(status_of .bridge.pid) != "$pid" ]] || fail "the bridge was not replaced"
    filer bridge upgrade --program /bin/true && fail "a program that serves nobody was taken"
    filer status
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
