#!/usr/bin/env bash
# The main job: a guest serves files that nobody here wrote, over NFS and SMB, through the polled bridge, and every byte, mode, link and
# time is compared. At the end nothing is left but a sound volume.
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"

check_mount_lines() {
  [[ $(tail -n 2 "$home/up.out" | head -n 1) == "mount -t nfs -o vers=4.2,port=$nfs_port 127.0.0.1:/share /mnt" ]] ||
    fail "up does not end with the NFS mount line: $(tail -n 2 "$home/up.out")"
  [[ $(tail -n 1 "$home/up.out") == "mount -t cifs "*"//127.0.0.1/share /mnt" ]] ||
    fail "up does not end with the SMB mount line: $(tail -n 1 "$home/up.out")"
}

check_status() {
  [[ $(status_of .schema) == filer.status/1 ]] || fail "schema"
  [[ $(status_of .mode) == guest ]] || fail "mode $(status_of .mode)"
  [[ $(status_of .accel) =~ ^(kvm|tcg)$ ]] || fail "accelerator $(status_of .accel)"
  [[ -n $(status_of .accel_reason) ]] || fail "no reason for the accelerator"
  [[ $(status_of '.exports[0].nfs_url') == *"nfsport=$nfs_port"* ]] || fail "nfs_url"
}

# Bytes and times over SMB. Samba serves the user `nobody`, who reads what the world may read; symbolic links are seen as what they
# point to, so regular files are compared.
compare_over_smb() {
  local copy=$home/from-smb password compared
  mkdir "$copy"
  password=$(cat "$home/smb.password")
  (cd "$copy" && smbclient "//127.0.0.1/share" -p "$smb_port" -U "filer%$password" -m SMB3 \
    -c 'cd real; tarmode full; tar cq all.tar *' >"$home/smbclient.out" 2>&1) ||
    fail "smbclient: $(tail -n 3 "$home/smbclient.out")"
  (cd "$copy" && tar -xf all.tar && rm all.tar)
  find "$copy" -mindepth 1 -maxdepth 1 | grep -q . || fail "SMB gave no files"
  compared=$(cd "$source_folder" && compare_with "$(find "$copy" -maxdepth 2 -name real -type d | head -n 1 || true)")
  note "compared over SMB: $compared"
}

# Every regular world-readable file of the source that was copied: bytes and modification time (SMB: seconds are enough of tar's).
compare_with() {
  local copy=${1:-$home/from-smb} path count=0
  while IFS= read -r path; do
    [[ -f $path && ! -L $path ]] || continue
    (($(stat -c %a "$path") & 4)) || continue
    cmp -s "$path" "$copy/$path" || fail "over SMB $path differs"
    [[ $(stat -c %Y "$path") == $(stat -c %Y "$copy/$path") ]] || fail "over SMB $path has another time"
    count=$((count + 1))
  done <"$home/journal"
  ((count >= 9000)) || fail "only $count files were compared over SMB"
  echo "$count files"
}

main() {
  new_filer </dev/null
  filer volume create main
  filer up | tee "$home/up.out"
  check_mount_lines
  check_status
  real_input
  note "copying over NFSv4"
  filer-nfs copy "$source_folder" "$(nfs_url 4)" /real "${source_limits[@]}" --journal "$home/journal" |
    tee "$home/copy.out"
  (($(wc -l <"$home/journal") >= 10000)) || fail "fewer than 10000 files were copied"
  (($(sed -n 's/.* \([0-9]*\) bytes.*/\1/p' "$home/copy.out") >= 300000000)) || fail "fewer than 300 MB were copied"
  note "comparing over NFSv3"
  filer-nfs compare "$source_folder" "$(nfs_url 3)" /real "${source_limits[@]}"
  note "comparing over SMB"
  compare_over_smb
  filer status
  [[ $(status_of .bridge.copied_bytes_per_io) == 0 || $(status_of .bridge.copied_bytes_per_io) == 0.0 ]] ||
    fail "the bridge copied $(status_of .bridge.copied_bytes_per_io) bytes per request"
  note "restarting: all must be there after a boot"
  filer down
  expect_nothing_left
  expect_sound_volume
  filer up
  filer-nfs compare "$source_folder" "$(nfs_url 4)" /real "${source_limits[@]}"
  filer down
  expect_nothing_left
}

main
