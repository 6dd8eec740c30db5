#!/usr/bin/env bash
# The agent of host mode is killed: its servers end on their own account, and `filer down` or `filer up` at that moment waits for them
# before it takes the bridge away or starts others. What clients wrote and did not sync is then on the volume, too.
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"

share() { echo "$home/run/f/door/share"; }

write_unsynced() { head -c 200000000 /dev/urandom | tee "$(share)/$1" | sha256sum >"$home/$1.sum"; }
expect_content() { [[ $(sha256sum <"$(share)/$1") == "$(<"$home/$1.sum")" ]] || fail "$1 is not what was written"; }

main() {
  local ganesha
  new_filer </dev/null
  filer volume create main
  filer up --mode host

  note "down at once"
  write_unsynced one
  kill -KILL "$(state_pid filer)"
  filer down | tee "$home/out"
  ! grep -q 'not a clean stop' "$home/out" || fail "the file server was not given its time"
  expect_nothing_left
  expect_sound_volume
  filer up --mode host
  expect_content one

  note "up at once"
  write_unsynced two
  kill -KILL "$(state_pid filer)"
  filer up --mode host
  expect_content one
  expect_content two

  note "a file server that does not end"
  ganesha=$(status_of '.services[] | select(.name == "ganesha") | .pid')
  kill -STOP "$ganesha"
  kill -KILL "$(state_pid filer)"
  filer down | tee "$home/out"
  grep -q 'not a clean stop: 1 of the servers .* had to be killed' "$home/out" || fail "down does not say that it killed"
  expect_nothing_left
  expect_sound_volume
}

main
