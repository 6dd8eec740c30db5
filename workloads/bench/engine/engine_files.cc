#include "workloads/bench/engine/engine_files.h"

#include <cstring>
#include <utility>

#include "base/clock.h"

namespace filer::bench {
namespace {

using engine::Caller;
using engine::CreateOptions;
using engine::Engine;
using engine::NodeId;
using engine::Stability;

constexpr std::uint64_t kCacheBytes = 16ULL << 20;

NodeId IdOf(FileNode node) { return {engine::kRootFileset, 0, node}; }

const Caller kCaller = {0, 0, {}, true};

class MountedFiles final : public EngineFiles {
 public:
  explicit MountedFiles(engine::BlockDevice& device) : device_(device) {}
  ~MountedFiles() override { static_cast<void>(Unmount().has_value()); }

  Result<void> Mount(const engine::MountOptions& options) {
    engine_ = FILER_TRY(Engine::Mount(device_, SystemClock(), options));
    return Ok();
  }
  Result<void> Unmount() override {
    if (!engine_) return Ok();
    auto unmounted = engine_->Unmount();
    engine_.reset();
    return unmounted;
  }
  Result<void> Remount(const engine::MountOptions& options) override {
    FILER_TRY(Unmount());
    return Mount(options);
  }
  Result<double> RemountKilled(const engine::MountOptions& options) override {
    engine_.reset();
    const std::int64_t begin_ns = SystemClock().MonotonicNs();
    FILER_TRY(Mount(options));
    return static_cast<double>(SystemClock().MonotonicNs() - begin_ns) / 1e9;
  }
  engine::EngineCounters Counters() const override { return engine_->Counters(); }
  std::int64_t CopiedBytes() const override {
    const auto counters = engine_->Counters();
    return static_cast<std::int64_t>(counters.copied_read_bytes + counters.copied_write_bytes);
  }

  Result<FileNode> MakeDirectory(const std::string& name) override {
    return Make(engine::kRootInode, name, engine::NodeKind::kDirectory, 0755);
  }
  Result<void> RemoveDirectory(const std::string& name, FileNode) override {
    FILER_TRY(engine_->Remove(kCaller, engine_->Root(), name, engine::RemoveKind::kDirectory));
    return Ok();
  }
  Result<FileNode> MakeFile(FileNode directory, const std::string& name) override {
    return Make(directory, name, engine::NodeKind::kFile, 0644);
  }
  void Close(FileNode) override {}
  Result<void> Touch(FileNode directory, const std::string& name) override {
    FILER_TRY(Make(directory, name, engine::NodeKind::kFile, 0644));
    return Ok();
  }
  Result<void> CreateDurable(FileNode directory, const std::string& name,
                             std::span<const std::byte> content) override {
    const FileNode node = FILER_TRY(Make(directory, name, engine::NodeKind::kFile, 0644));
    return WriteAs(node, 0, content, Stability::kFileSync);
  }
  Result<void> Lookup(FileNode directory, const std::string& name) override {
    FILER_TRY(engine_->Lookup(IdOf(directory), name));
    return Ok();
  }
  Result<void> Stat(FileNode directory, const std::string& name) override {
    const auto found = FILER_TRY(engine_->Lookup(IdOf(directory), name));
    FILER_TRY(engine_->GetAttributes(found.id));
    return Ok();
  }
  Result<std::uint64_t> ReadDirectory(FileNode directory) override {
    std::uint64_t count = 0;
    FILER_TRY(engine_->ReadDirectory(IdOf(directory), 0, [&count](const engine::DirectoryEntry&) {
      ++count;
      return true;
    }));
    return count;
  }
  Result<void> RemoveDurable(FileNode directory, const std::string& name) override {
    FILER_TRY(engine_->Remove(kCaller, IdOf(directory), name, engine::RemoveKind::kNotDirectory));
    return Ok();
  }
  Result<void> RenameDurable(FileNode directory, const std::string& from,
                             const std::string& to) override {
    return engine_->Rename(kCaller, IdOf(directory), from, IdOf(directory), to,
                           engine::kRenameReplace);
  }
  // In place, as the doors take it: segments of pool buffers, from which a socket would send.
  Result<void> Read(FileNode file, std::uint64_t offset, std::span<std::byte> bytes) override {
    const auto read = FILER_TRY(engine_->Read(IdOf(file), offset, bytes.size()));
    if (read.length_bytes != bytes.size()) return Errc::kShortTransfer;
    return Ok();
  }
  Result<void> Write(FileNode file, std::uint64_t offset,
                     std::span<const std::byte> bytes) override {
    return WriteAs(file, offset, bytes, Stability::kUnstable);
  }
  Result<void> WriteDurable(FileNode file, std::uint64_t offset,
                            std::span<const std::byte> bytes) override {
    return WriteAs(file, offset, bytes, Stability::kDataSync);
  }
  Result<void> Commit(FileNode file) override {
    FILER_TRY(engine_->Commit(IdOf(file), 0, 0));
    return Ok();
  }
  Result<void> SyncAll() override { return engine_->SyncAll(); }

 private:
  Result<FileNode> Make(FileNode directory, const std::string& name, engine::NodeKind kind,
                        std::uint32_t mode) {
    CreateOptions options;
    options.kind = kind;
    options.attributes.mode = mode;
    const auto made = FILER_TRY(engine_->Create(kCaller, IdOf(directory), name, options));
    return made.node.id.inode;
  }
  Result<void> WriteAs(FileNode node, std::uint64_t offset, std::span<const std::byte> bytes,
                       Stability stability) {
    const iovec segment = {const_cast<std::byte*>(bytes.data()), bytes.size()};
    const auto written = FILER_TRY(engine_->Write(IdOf(node), offset, {&segment, 1}, stability));
    if (written.length_bytes != bytes.size()) return Errc::kShortTransfer;
    return Ok();
  }

  engine::BlockDevice& device_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace

engine::MountOptions EngineFiles::DefaultOptions() {
  engine::MountOptions options;
  options.cache_bytes = kCacheBytes;
  return options;
}

Result<std::unique_ptr<EngineFiles>> EngineFiles::Make(engine::BlockDevice& device) {
  engine::FormatOptions format;
  format.volume_name = "bench";
  format.overwrite = true;
  FILER_TRY(Engine::Format(device, format));
  auto files = std::make_unique<MountedFiles>(device);
  FILER_TRY(files->Mount(DefaultOptions()));
  return std::unique_ptr<EngineFiles>(std::move(files));
}

}  // namespace filer::bench
