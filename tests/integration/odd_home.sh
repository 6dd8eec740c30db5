#!/usr/bin/env bash
# A home with a blank in its name, reached through a symbolic link: the kernel's mount table and the command lines of processes have
# neither the link nor, as it is, the blank. In it, a volume grows under the filer.
here=$(dirname "$(readlink -f "$0")")
home_name='real home'
source "$here/lib.sh"

# A folder of somebody else is mounted in the middle of what `filer down` removes.
mount_precious() {
  mkdir -p "$scratch/precious" "$home/run/f/some where"
  echo data >"$scratch/precious/file"
  mount --bind "$scratch/precious" "$home/run/f/some where"
}

size_of_main() { filer volume list --json | jq '.volumes[0].size_bytes'; }

main() {
  local line before
  new_filer </dev/null
  ln -s "$home" "$scratch/link"
  export FILER_HOME=$scratch/link
  filer volume create main
  filer up --mode host >"$scratch/lines"

  note "the SMB mount line, as a shell reads it"
  line=$(grep cifs "$scratch/lines")
  [[ $(bash -c "printf '%s\n' ${line#mount }") == *"password=$(<"$home/smb.password")"* ]] || fail "no password from: $line"

  note "the engine's mount, by name and through the link, and somebody else's"
  echo served >"$home/run/f/door/share/file"
  [[ $(<"$FILER_HOME/run/f/door/share/file") == served ]] || fail "not the volume"
  [[ $(filer --home "$home" status --json | jq -r .state) == ready ]] || fail "another filer by its real name"
  mount_precious
  filer down
  expect_nothing_left
  [[ $(<"$scratch/precious/file") == data ]] || fail "filer down removed what was mounted below the run folder"

  note "killed: down finds the dead mount, and the data is there"
  filer up --mode host
  sync -f "$home/run/f/door/share/file"
  kill -KILL "$(status_of '.services[] | select(.name == "ganesha") | .pid')" "$(state_pid filer)"
  filer down
  expect_nothing_left
  filer up --mode host
  [[ $(<"$home/run/f/door/share/file") == served ]] || fail "the file is gone"

  note "a volume grows while it is served, and is listed as what it is"
  before=$(size_of_main)
  filer volume grow main $((before + (64 << 20)))
  [[ $(size_of_main) == $((before + (64 << 20))) ]] || fail "volume list says $(size_of_main), was $before"
  filer volume grow main "$before" && fail "a volume shrank"
  [[ $(filer status --json | jq .volumes[0].size_bytes) == $((before + (64 << 20))) ]] || fail "the bridge did not notice"
  filer top --once | grep -q ^main || fail "top does not show the volume"
  echo served >"$home/run/f/door/share/file"
  filer down
  filer up --mode host
  [[ $(<"$home/run/f/door/share/file") == served ]] || fail "the file is gone from the larger volume"
  filer down
  expect_nothing_left
  expect_sound_volume
}

main
