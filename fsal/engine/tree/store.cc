#include "fsal/engine/tree/store.h"

#include "fsal/engine/tree/store_impl.h"
#include "fsal/engine/tree/volume.h"

namespace filer::engine {

Result<void> Store::Format(BlockDevice& device, const StoreFormatOptions& options) {
  return FormatVolume(device, options);
}

Result<std::unique_ptr<Store>> Store::Open(BlockDevice& device, const Clock& clock,
                                           bool read_only) {
  StoreOpenOptions options;
  options.read_only = read_only;
  return StoreImpl::Open(device, clock, options);
}

Result<std::unique_ptr<Store>> Store::Open(BlockDevice& device, const Clock& clock,
                                           const StoreOpenOptions& options) {
  return StoreImpl::Open(device, clock, options);
}

}  // namespace filer::engine
