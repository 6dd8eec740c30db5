# A client for tests: Debian's kernel with its NFS and CIFS clients, and the programs whose work on a
# mounted filer the tests judge. Read by build-image. kvm_amd: for vm_exits.sh, a guest in a guest.
packages=(base-files libc6 busybox-static linux-image-amd64 kmod netbase bash coreutils findutils diffutils
  tar gzip xz-utils sed grep gawk util-linux mount nfs-common cifs-utils git sqlite3 rsync attr procps)
packages_with_dpdk=()

initrd_modules=(virtio_pci virtio_scsi sd_mod squashfs overlay)
root_modules=(virtio_net virtio_console virtio_blk failover af_packet nfs nfsv2 nfsv3 nfsv4 cifs fscache
  dns_resolver cmac hmac ccm gcm ghash_generic ctr seqiv ecb cbc des_generic md5 md4 sha512_generic sha256_generic
  crc32c_generic aes_generic aesni_intel cts nls_utf8 ext4 loop kvm_amd)

remove=(usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/bug usr/share/lintian
  usr/share/python3 usr/share/bash-completion usr/share/zoneinfo usr/share/i18n
  usr/lib/python3 usr/lib/python3.11 usr/lib/x86_64-linux-gnu/gconv usr/lib/systemd usr/lib/udev
  usr/lib/linux-image-\* usr/include usr/games usr/src usr/bin/python\* usr/lib/x86_64-linux-gnu/libpython\*
  etc/init.d etc/rc\* etc/systemd etc/cron\* etc/kernel var/lib/dpkg var/cache var/log boot)
