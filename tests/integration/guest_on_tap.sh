#!/usr/bin/env bash
# A guest with a network interface and an address of its own, on a tap device: clients reach it there, and exports tell them apart.
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"
tap=nm$((RANDOM % 10000))
network=198.18.$((RANDOM % 250))  # RFC 2544: for tests of networks

at_end() { ip link del "$tap" 2>/dev/null || true; }

main() {
  [[ -c /dev/net/tun ]] || { echo "skipped: this machine has no /dev/net/tun"; exit 77; }
  guest_lines="nic = \"tap:$tap\"
address = \"$network.5/24\""
  new_filer <<TOML
clients = ["$network.1"]
[[export]]
name = "others"
clients = ["192.0.2.0/24"]
TOML
  ip tuntap add dev "$tap" mode tap
  ip addr add "$network.1/24" dev "$tap"
  ip link set "$tap" up
  filer volume create main
  filer up | tee "$home/up.out"
  grep -qx "mount -t nfs -o vers=4.2,port=$nfs_port $network.5:/share /mnt" "$home/up.out" || fail "no mount line with the guest's address"
  local options="nfsport=$nfs_port&mountport=$nfs_port"
  filer-nfs copy /usr/share "nfs://$network.5/share?$options&version=3" /real --files 300
  filer-nfs compare /usr/share "nfs://$network.5/share?$options&version=4" /real --files 300
  ! filer-nfs copy /usr/share "nfs://$network.5/others?$options&version=3" /real --files 1 2>"$home/refused" ||
    fail "a client that is not listed was served"
  grep -q ACCES "$home/refused" || fail "refused with: $(cat "$home/refused")"
  smbclient "//$network.5/share" -p "$smb_port" -U "filer%$(cat "$home/smb.password")" -m SMB3 -t 120 -c 'ls real\*' >"$home/list" ||
    fail "smbclient: $(tail -n 2 "$home/list")"
  filer down
  expect_nothing_left
  expect_sound_volume
}

main
