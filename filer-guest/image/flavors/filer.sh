# The filer's own image. Read by build-image.
# Programs that the agent starts, and what they cannot do without. Libraries of our own binaries are
# added by build-image, from ldd and dpkg.
packages=(base-files libc6 busybox-static linux-image-amd64 samba samba-common-bin samba-vfs-modules)
# Opened at run time, so that ldd does not see them: added when a binary links librte_eal.
packages_with_dpdk=(librte-bus-pci23 librte-bus-vdev23 librte-mempool-ring23)

# The modules of the initrd, up to the root file system.
initrd_modules=(virtio_pci virtio_scsi sd_mod squashfs overlay)
# The modules of the image; those they depend on come along. No virtio_blk: the volumes' disks belong
# to our driver, and nothing in the guest may take them.
root_modules=(virtio_net virtio_console virtio_rng failover fuse vfio_pci
  vfio_iommu_type1 igbvf ixgbevf iavf mlx5_core af_packet)

# Removed from the Debian layer: what only an interactive or a domain-controlling machine needs.
remove=(usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/bug usr/share/lintian
  usr/share/perl usr/share/perl5 usr/share/python3 usr/share/bash-completion usr/share/zoneinfo
  usr/share/samba/setup usr/share/samba/admx usr/share/initramfs-tools usr/share/i18n
  usr/share/common-licenses usr/share/pam usr/share/pam-configs usr/share/debconf usr/share/menu
  usr/share/apport usr/share/applications usr/share/pixmaps usr/share/icons usr/share/gcc
  usr/share/ufw usr/share/libc-bin usr/share/binfmts
  usr/lib/python3 usr/lib/python3.11 usr/lib/x86_64-linux-gnu/perl usr/lib/x86_64-linux-gnu/perl-base
  usr/lib/x86_64-linux-gnu/perl5 usr/lib/x86_64-linux-gnu/gconv usr/lib/systemd usr/lib/udev
  usr/lib/tmpfiles.d usr/lib/sysusers.d usr/lib/linux-image-\* usr/lib/linux-boot-probes
  usr/lib/valgrind usr/lib/mime usr/lib/locale usr/include usr/games usr/src
  usr/lib/x86_64-linux-gnu/libpython\* usr/lib/x86_64-linux-gnu/libperl\*
  usr/lib/x86_64-linux-gnu/samba/ldb usr/lib/x86_64-linux-gnu/samba/service
  usr/bin/python\* usr/bin/perl\* usr/bin/samba-tool usr/sbin/samba usr/sbin/samba_\*
  usr/bin/openssl etc/init.d etc/rc\* etc/systemd etc/cron\* etc/logrotate.d etc/python\* etc/perl
  etc/ssl etc/pam.d etc/security etc/kernel etc/default etc/ufw etc/dpkg etc/debconf.conf
  var/lib/dpkg var/cache var/log boot)
