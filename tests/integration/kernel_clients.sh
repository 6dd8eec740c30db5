#!/usr/bin/env bash
# A second guest mounts the filer with the Linux kernel's own clients, NFSv3, NFSv4.2 and CIFS: tar, a git clone and fsck, an SQLite
# database under two writers, find, rm -rf. What one protocol wrote, the others see.
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"

main() {
  local image
  new_filer </dev/null
  filer volume create main
  image=$(client_image)
  filer up
  mkdir "$home/c"
  {
    echo "nfs_port=$nfs_port smb_port=$smb_port smb_password='$(cat "$home/smb.password")'"
    cat "$here/kernel_clients_inside.sh"
  } >"$home/script"
  client-guest --image "$image" --run "$home/c" --timeout 3000 "$home/script"
  [[ $(status_of .state) == ready ]] || fail "the filer is $(status_of .state)"
  filer status
  filer down
  expect_nothing_left
  expect_sound_volume
}

main
