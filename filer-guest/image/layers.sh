# layers.sh: the two layers of an image. Read by build-image, which sets here, bin, ganesha, flavor,
# agent_only, refresh, out, work and the arrays of the flavor.

say() { echo "image: $*" >&2; }
die() { echo "build-image: $*" >&2; exit 1; }

# Hash of names and contents of files, in a fixed order.
hash_files() { (cd "$1" && find . \( -type f -o -type l \) -print0 | sort -z | xargs -0 sha256sum --) | sha256sum | cut -c1-64; }

find_program() {
  local dir
  for dir in "$bin" "$bin/../lib"; do
    [[ -f $dir/$1 ]] && readlink -f "$dir/$1" && return
  done
  die "$1 is not in $bin or $bin/../lib: build it first"
}

# Copies what is ours into $1/{bin,lib} and sets derived_packages to the Debian packages of the
# libraries that it links.
collect_binaries() {
  local target=$1 plugin
  mkdir -p "$target"/{bin,lib,ganesha}
  local init=filer-agent
  [[ $flavor == client ]] && init=client-agent
  install -m 755 "$(find_program $init)" "$target/bin/$init"
  if [[ $flavor == filer && $agent_only == no ]]; then
    install -m 755 "$ganesha/install/bin/ganesha.nfsd" "$target/bin/"
    install -m 755 "$(find_program libfsalnearmetal.so)" "$target/ganesha/"
    for plugin in $ganesha_plugins; do
      install -m 755 "$ganesha/install/lib/ganesha/$plugin" "$target/ganesha/"
    done
  fi
  ln -s "bin/$init" "$target/init"
  collect_libraries "$target"
  find "$target" -type f -exec strip --strip-debug {} +
}

# Libraries of the collected binaries: those of no Debian package are copied, the rest named.
collect_libraries() {
  local target=$1 library owner
  local -A owners=()
  local search="$bin/../lib:$target/lib"
  [[ -n $ganesha ]] && search="$ganesha/install/lib:$ganesha/install/lib64:$search"
  find "$target" -type f -exec env LD_LIBRARY_PATH="$search" ldd {} + >"$work/ldd" 2>/dev/null || true
  if grep -q 'not found' "$work/ldd"; then
    die "a library is missing: $(grep -m1 'not found' "$work/ldd" | xargs)"
  fi
  while read -r library; do
    if owner=$(owner_of "$library"); then
      owners[$owner]=1
    else
      install -m 755 "$(readlink -f "$library")" "$target/lib/$(basename "$library")"
    fi
  done < <(awk '$2 == "=>" && $3 ~ /^\// {print $3}' "$work/ldd" | sort -u)
  if grep -q librte_eal "$work/ldd"; then
    for owner in "${packages_with_dpdk[@]}"; do owners[$owner]=1; done
  fi
  mapfile -t derived_packages < <(printf '%s\n' "${!owners[@]}" | sed '/^$/d' | sort)
}

# The Debian package of a library. The machine's /lib may be /usr/lib, dpkg knows one of the names.
owner_of() {
  local real path
  real=$(readlink -f "$1")
  for path in "$1" "$real" "/usr$1" "${real#/usr}" "${1#/usr}"; do
    dpkg-query -S "$path" 2>/dev/null | head -1 | cut -d: -f1 | grep . && return
  done
  return 1
}

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
    cat "$here/layers.sh" "$here/udhcpc"
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

# The image: the Debian layer with ours appended, the initrd, the manifest.
app_image() {
  local app inputs made=$work/image
  compile_init
  app=$(hash_files "$work/nearmetal")
  inputs=$(printf '%s\n' "$base" "$app" "$(sha256sum <"$work/init")" "$(sha256sum <"$here/build-image")" |
    sha256sum | cut -c1-64)
  local versions
  versions=$(product_versions)
  version=$flavor-$(sed -n 's/.*"version": *"\([^"]*\)".*/\1/p' <<<"$versions")-${inputs:0:12}
  [[ -f $out/$version/manifest.json ]] && return
  say "making image $version"
  mkdir -p "$made"
  cp "$base/kernel" "$made/kernel"
  cp "$base/base.squashfs" "$made/root.squashfs"
  mkdir "$work/app" && mv "$work/nearmetal" "$work/app/nearmetal"
  mksquashfs "$work/app" "$made/root.squashfs" -all-root -quiet -no-progress >/dev/null
  make_initrd "$made/initrd"
  write_manifest "$made" "$inputs" "$versions" >"$work/manifest.json"
  mv "$work/manifest.json" "$made/manifest.json"
  sync -f "$made"
  rm -rf "${out:?}/$version"
  mv -T "$made" "$out/$version"
}

compile_init() {
  "${CXX:-g++}" -std=c++20 -Os -static -fno-exceptions -fno-rtti -o "$work/init" "$here/init/init.cc" ||
    die "the initrd's init did not compile"
  strip "$work/init"
}

make_initrd() {
  local tree=$work/initrd
  mkdir -p "$tree"/{dev,proc,sys,modules}
  install -m 755 "$work/init" "$tree/init"
  cp "$base/initrd-modules/"* "$tree/modules/"
  # The kernel opens /dev/console before init has mounted /dev.
  mknod "$tree/dev/console" c 5 1
  (cd "$tree" && find . -print0 | sort -z | cpio --null --quiet -o -H newc --reproducible) >"$1"
}

# {"version": ..., "volume_format": ..., "state_format": ...} as the agent was compiled.
product_versions() {
  local agent=filer-agent
  [[ $flavor == client ]] && agent=client-agent
  LD_LIBRARY_PATH="$bin/../lib" "$(find_program $agent)" --versions
}

write_manifest() {
  local made=$1 inputs=$2 versions=$3 name comma=''
  printf '{\n  "schema": "filer.image/1",\n  "version": "%s",\n  "flavor": "%s",\n' "$version" "$flavor"
  printf '  "product": %s,\n  "kernel_release": "%s",\n  "inputs_sha256": "%s",\n  "files": {' \
    "$versions" "$(<"$base/kernel-release")" "$inputs"
  for name in kernel initrd root.squashfs; do
    printf '%s\n    "%s": {"sha256": "%s", "bytes": %d}' "$comma" "$name" \
      "$(sha256sum "$made/$name" | cut -c1-64)" "$(stat -c %s "$made/$name")"
    comma=,
  done
  printf '\n  },\n  "packages": {'
  comma=''
  local package package_version
  while read -r package package_version; do
    printf '%s\n    "%s": "%s"' "$comma" "$package" "$package_version"
    comma=,
  done <"$base/packages"
  printf '\n  }\n}\n'
}

# Everything between the kernel and the first answer is read once, under emulation perhaps: speed of
# unpacking counts more than size.
squashfs_options="-comp zstd -Xcompression-level 15 -b 128K -all-root"
# Plug-ins of the pinned Ganesha that the image takes besides our own.
ganesha_plugins=''
