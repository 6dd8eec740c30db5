#!/usr/bin/env bash
# The guest's driver behind a virtual IOMMU: VFIO instead of UIO, ring and data addresses translated by the bridge's IOTLB. A tree is copied,
# compared, and compared again after a restart without the IOMMU: the volume is the same.
here=$(dirname "$(readlink -f "$0")")
source "$here/lib.sh"

main() {
  new_filer </dev/null
  filer volume create main
  filer up --viommu
  [[ $(status_of .engine.transport) == pci/vfio ]] || fail "the driver uses $(status_of .engine.transport)"
  real_input 300 15000000
  each_tree copy 3
  each_tree compare 4
  filer status
  filer down
  expect_nothing_left
  expect_sound_volume
  filer up
  [[ $(status_of .engine.transport) == pci/uio ]] || fail "the driver uses $(status_of .engine.transport)"
  each_tree compare 4
  filer down
  expect_nothing_left
}

main
