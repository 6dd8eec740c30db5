// engine_mount.cc: a volume becomes an engine: format, mount, check, repair.
#include "fsal/engine/check/check.h"
#include "fsal/engine/check/repair.h"
#include "fsal/engine/fs/engine_impl.h"
#include "fsal/engine/fs/extents.h"

namespace filer::engine {

Result<void> Engine::Format(BlockDevice& device, const FormatOptions& options) {
  StoreFormatOptions store_options;
  store_options.volume_name = options.volume_name;
  store_options.random_seed = options.random_seed;
  store_options.overwrite = options.overwrite;
  FILER_TRY(Store::Format(device, store_options));
  const Clock& clock = options.clock != nullptr ? *options.clock : SystemClock();
  const auto store = FILER_TRY(Store::Open(device, clock, false));
  const InodeRecord root = NewRoot(store->MountEpoch(), clock.RealtimeNs());
  Transaction transaction;
  PutRoot(root, transaction);
  FILER_TRY(store->Sync(FILER_TRY(store->Commit(std::move(transaction)))));
  return store->Close();
}

Result<std::unique_ptr<Engine>> Engine::Mount(BlockDevice& device, const Clock& clock,
                                              const MountOptions& options) {
  const std::int64_t begin_ns = clock.MonotonicNs();
  MountOptions adjusted = options;
  if (device.Info().is_read_only) adjusted.read_only = true;
  StoreOpenOptions store_options;
  store_options.read_only = adjusted.read_only;
  store_options.run_of = RunOfPair;
  auto store = FILER_TRY(Store::Open(device, clock, store_options));
  auto engine = std::make_unique<EngineImpl>(device, clock, adjusted, std::move(store));
  FILER_TRY(engine->Start(begin_ns));
  return std::unique_ptr<Engine>(std::move(engine));
}

Result<CheckReport> Engine::Check(BlockDevice& device, bool verify_data) {
  StoreOpenOptions options;
  options.read_only = true;
  options.run_of = RunOfPair;
  options.must_walk = true;
  const auto store = FILER_TRY(Store::Open(device, SystemClock(), options));
  return CheckVolume(device, *store, verify_data);
}

Result<RepairReport> Engine::Repair(BlockDevice& device, const RepairOptions& options) {
  if (device.Info().is_read_only && !options.is_dry_run) {
    return Error(Errc::kReadOnly, "repair: the device is read-only");
  }
  return RepairVolume(device, SystemClock(), options);
}

}  // namespace filer::engine
