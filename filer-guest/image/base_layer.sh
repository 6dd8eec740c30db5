# base_layer.sh: the Debian layer. Read by build-image after app_layer.sh. Its hash holds this file, so
# that a change here fetches and packs Debian again.

# The machine's own Debian suites, as sources.list lines.
debian_sources() {
  local codename
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' |
    awk -v c="$codename" '$2 == c || $2 == c "-updates" || $2 == c "-security"' | sort -u |
    sed 's/^/deb /; s/$/ main/'
}

# The Debian layer: $base/{base.squashfs,kernel,initrd-modules/,packages}. Takes a minute, once.
base_layer() {
  local all_packages inputs sources
  mapfile -t all_packages < <(printf '%s\n' "${packages[@]}" "${derived_packages[@]}" | sort -u)
  sources=$(debian_sources)
  [[ -n $sources ]] || die "apt knows no Debian archive: see /etc/apt/sources.list"
  inputs=$({
    printf '%s\n' "${all_packages[@]}" "${remove[@]}" "${initrd_modules[@]}" "${root_modules[@]}"
    awk '{print $3}' <<<"$sources"
    cat "$here/base_layer.sh" "$here/udhcpc"
  } | sha256sum | cut -c1-16)
  base=$out/.layers/$flavor-$inputs
  [[ $refresh == yes ]] && rm -rf "$base"
  [[ -d $base ]] && return
  say "fetching ${#all_packages[@]} Debian packages (once)"
  local root=$work/root made=$work/base codename
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  mkdir -p "$made"
  mmdebstrap --quiet --mode=root --variant=extract --format=directory \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --aptopt='APT::Install-Recommends "false"' \
    --extract-hook="ls \"\$1/var/cache/apt/archives\" >'$work/archives'" \
    --include="$(IFS=,; echo "${all_packages[*]}")" "$codename" "$root" - <<<"$sources" >"$work/mmdebstrap.log" 2>&1 ||
    die "mmdebstrap: $(grep -m1 -E '^E:|rror' "$work/mmdebstrap.log" || tail -1 "$work/mmdebstrap.log")"
  kernel_files "$root" "$made"
  package_list "$work/archives" >"$made/packages"
  [[ -s $made/packages ]] || die "mmdebstrap named no packages"
  trim "$root"
  write_etc "$root"
  mksquashfs "$root" "$made/base.squashfs" $squashfs_options -quiet -no-progress >/dev/null
  rm -rf "$root"
  mv -T "$made" "$base"
}

# "package version" of each archive that was unpacked, from the archives' names (%3a is a colon).
package_list() {
  sed -nE 's/^([^_]+)_([^_]+)_[^_]+\.deb$/\1 \2/p' "$1" | sed 's/%3a/:/' | sort -u
}

# Kernel, and the modules of initrd and root with those they need.
kernel_files() {
  local root=$1 made=$2 release
  release=$(ls "$root/usr/lib/modules" | sort -V | tail -1)
  echo "$release" >"$made/kernel-release"
  unpack_kernel "$root/boot/vmlinuz-$release" "$made/kernel"
  chroot "$root" /bin/busybox depmod "$release"
  local all=$root/usr/lib/modules/$release kept=$work/modules
  mkdir -p "$made/initrd-modules" "$kept"
  module_closure "$all" "${initrd_modules[@]}" >"$work/initrd-order"
  local path
  while read -r path; do
    cp "$all/$path" "$made/initrd-modules/"
    basename "$path"
  done <"$work/initrd-order" >"$made/initrd-modules/order"
  module_closure "$all" "${initrd_modules[@]}" "${root_modules[@]}" >"$work/root-order"
  (cd "$all" && xargs cp --parents -t "$kept" modules.builtin modules.order <"$work/root-order")
  rm -rf "$all" && mv "$kept" "$all"
  chroot "$root" /bin/busybox depmod "$release"
  # kmod's own tools, where the flavor has them (the kernel asks modprobe for ciphers), read a binary form that busybox does not write.
  if [[ -e $root/usr/sbin/depmod ]]; then chroot "$root" /usr/sbin/depmod "$release"; fi
}

# The ELF image inside Debian's compressed kernel, which QEMU starts by its PVH entry: unpacking it
# under emulation would take longer than the whole boot after it.
unpack_kernel() {
  local packed=$1 offset
  offset=$(grep -abom1 $'\xfd7zXZ' "$packed" | head -1 | cut -d: -f1) ||
    die "$packed is not compressed by xz, as Debian 12 does it"
  # What follows the stream (its length) is not for xz.
  tail -c +$((offset + 1)) "$packed" | xz -dc --single-stream >"$2" 2>/dev/null || true
  [[ $(head -c 4 "$2") == $'\x7fELF' ]] || die "$packed holds no ELF image"
}

# Paths of the named modules and of all they need, each after what it needs. Built-in ones are left
# out; a name that is neither is an error.
module_closure() {
  local all=$1
  shift
  awk -v names="$*" '
    function key(path) { sub(/.*\//, "", path); sub(/\.ko.*/, "", path); gsub(/-/, "_", path); return path }
    function visit(name,   parts, count, i) {
      if (name in done) return
      done[name] = 1
      if (!(name in path)) { if (!(name in builtin)) { print name > "/dev/stderr"; bad = 1 } return }
      count = split(needs[name], parts, " ")
      for (i = count; i >= 1; i--) visit(key(parts[i]))
      print path[name]
    }
    FILENAME ~ /builtin$/ { builtin[key($1)] = 1; next }
    { p = $1; sub(/:$/, "", p); k = key(p); path[k] = p; $1 = ""; needs[k] = $0 }
    END { n = split(names, list, " "); for (i = 1; i <= n; i++) { gsub(/-/, "_", list[i]); visit(list[i]) } exit bad }
  ' "$all/modules.builtin" "$all/modules.dep" || die "the kernel lacks a module (named above)"
}

trim() {
  local root=$1 pattern
  for pattern in "${remove[@]}"; do
    (cd "$root" && eval "rm -rf -- $pattern")
  done
  find "$root" -xdev -type f \( -name '*.a' -o -name '*.la' -o -name '*.pyc' \) -delete
}

# What the packages' scripts would have made, and nothing else: users, name lookup, mount points.
write_etc() {
  local root=$1 name
  for name in $("$root/bin/busybox" --list); do
    [[ -e $root/usr/bin/$name || -e $root/usr/sbin/$name ]] || ln -s /bin/busybox "$root/usr/bin/$name"
  done
  mkdir -p "$root"/{etc,proc,sys,dev,run,tmp,root,mnt,nearmetal,var/{log,cache,tmp,lib/nfs,run,lock},var/lib/samba/private,var/cache/samba,var/log/samba}
  rmdir "$root/nearmetal"
  chmod 1777 "$root/tmp" "$root/var/tmp"
  chmod 700 "$root/root"
  printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534:nobody:/nonexistent:/bin/false \
    daemon:x:1:1:daemon:/usr/sbin:/bin/false statd:x:102:65534::/var/lib/nfs:/bin/false >"$root/etc/passwd"
  printf '%s\n' root:x:0: daemon:x:1: nogroup:x:65534: >"$root/etc/group"
  printf '%s\n' 'root:*:19000:0:99999:7:::' 'nobody:*:19000:0:99999:7:::' >"$root/etc/shadow"
  chmod 640 "$root/etc/shadow"
  printf '%s\n' 'passwd: files' 'group: files' 'shadow: files' 'hosts: files dns' 'services: files' \
    'protocols: files' >"$root/etc/nsswitch.conf"
  echo '127.0.0.1 localhost' >"$root/etc/hosts"
  echo nearmetal >"$root/etc/hostname"
  ln -sf /proc/mounts "$root/etc/mtab"
  : >"$root/etc/fstab"
  install -D -m 755 "$here/udhcpc" "$root/usr/share/nearmetal/udhcpc"
  rm -f "$root/etc/samba/smb.conf"
}

# Everything between the kernel and the first answer is read once, under emulation perhaps: speed of
# unpacking counts more than size.
squashfs_options="-comp zstd -Xcompression-level 15 -b 128K -all-root"
