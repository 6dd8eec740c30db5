# shellcheck shell=bash
# packages.sh: installs the Debian packages that the project needs and the machine lacks. Sourced, never run.
#
# Nothing is touched when nothing is missing. The machine's own sources, pins and held packages are respected; QEMU
# comes from the backports of the machine's own mirror through a private apt configuration (debian.sh).

packages_file=$(dirname "${BASH_SOURCE[0]}")/packages.txt
qemu_version_min=10.0
# In a policy-rc.d of ours, so that one left by a killed run is known and removed.
policy_marker='# written by ./filer while it installs packages; safe to delete'

packages_of() {
  awk -v group="$1" '$1 == group { for (i = 2; i <= NF; i++) print $i }' "$packages_file"
}

# Prints those of the packages that are not fully installed.
missing_packages() {
  local installed
  # An unknown name is an error of dpkg-query; it is missing, like the others that are not printed.
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p') || true
  comm -23 <(printf '%s\n' "$@" | sort -u) <(sort -u <<<"$installed")
}

# Prints what is missing for QEMU 10, or nothing. A QEMU that did not come from Debian will do as well.
missing_qemu() {
  local packages package missing version
  mapfile -t packages < <(packages_of qemu)
  missing=$(missing_packages "${packages[@]}")
  for package in "${packages[@]}"; do
    grep -qx "$package" <<<"$missing" && continue
    version=$(dpkg-query -W -f '${Version}' "$package")
    dpkg --compare-versions "${version#*:}" ge "$qemu_version_min" || missing+=$'\n'$package
  done
  sed '/^$/d' <<<"$missing"
}

require_root() {
  ((EUID == 0)) || die "packages are missing and only root can install them; run as root, or install them first:" \
    "apt-get install --no-install-recommends $*"
}

# Debian starts a service when its package is installed. A file server that nobody asked for must not appear on the
# user's network (samba), so services are not started meanwhile. A policy of the machine's own stays in force.
without_starting_services() {
  local policy=/usr/sbin/policy-rc.d status=0
  [[ -f $policy ]] && grep -qF "$policy_marker" "$policy" && rm -f "$policy"
  if [[ -e $policy ]]; then
    "$@"
    return
  fi
  # shellcheck disable=SC2064 # the path is wanted as it is now
  trap "rm -f $policy" EXIT
  printf '#!/bin/sh\n%s\nexit 101\n' "$policy_marker" >"$policy"
  chmod 755 "$policy"
  "$@" || status=$?
  rm -f "$policy"
  trap - EXIT
  return "$status"
}

# Only for services that this run brought: they would otherwise start at the next boot.
disable_new_services() {
  [[ -d /run/systemd/system ]] || return 0
  systemctl disable smbd nmbd samba-ad-dc || true
}

apt_install() {
  DEBIAN_FRONTEND=noninteractive "$@" -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 </dev/null
}

install_packages() {
  local brings_samba=
  [[ " $* " == *" samba "* ]] && brings_samba=yes
  apt-get update -o Acquire::Retries=3 -o DPkg::Lock::Timeout=600 ||
    echo "some package lists could not be read; going on with the old ones"
  without_starting_services apt_install apt-get install --no-install-recommends "$@"
  [[ -z $brings_samba ]] || disable_new_services
}

# Answers 3 when the archive has no QEMU that is new enough: the caller then goes on without a guest.
install_qemu() {
  local scratch codename candidate status=0
  codename=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
  scratch=$(mktemp -d)
  # Not through a trap: without_starting_services has the EXIT trap.
  (private_apt_setup "$scratch" deb "$codename" "$codename-updates" "$codename-backports") ||
    { rm -rf "$scratch"; return 3; }
  candidate=$(private_apt "$scratch" apt-cache madison qemu-system-x86 |
    awk -F ' *[|] *' 'NR == 1 { sub(/^[0-9]+:/, "", $2); print $2 }')
  if [[ -z $candidate ]] || ! dpkg --compare-versions "$candidate" ge "$qemu_version_min"; then
    rm -rf "$scratch"
    return 3
  fi
  without_starting_services apt_install private_apt "$scratch" apt-get install --no-install-recommends \
    -t "$codename-backports" "$@" || status=$?
  rm -rf "$scratch"
  return "$status"
}
