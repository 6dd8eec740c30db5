// direct_subject.cc: the backend called in the process and thread of the load.
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "host-bridge/backend/backend.h"
#include "workloads/bench/subject.h"

namespace filer::bench {
namespace {

using bridge::Backend;
using bridge::BackendCompletion;
using bridge::BackendOperation;
using bridge::BackendQueue;
using bridge::BackendRequest;

Result<std::unique_ptr<Backend>> Open(const Backing& backing) {
  switch (backing.backend) {
    case BackendKind::kNull:
      return bridge::OpenNullBackend(backing.size_bytes);
    case BackendKind::kMemory:
      return bridge::OpenMemoryBackend(backing.size_bytes);
    case BackendKind::kFile:
      break;
  }
  return bridge::OpenFileBackend({.path = backing.file_path, .is_read_only = false});
}

// Pages that are there, as a guest's pre-faulted memory is.
class Buffers {
 public:
  static Result<Buffers> Make(std::size_t bytes) {
    void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (base == MAP_FAILED) return Error::System(errno, "mmap of buffers");
    return Buffers({base, bytes});
  }
  Buffers(Buffers&& other) noexcept : all_(std::exchange(other.all_, {})) {}
  ~Buffers() {
    if (all_.iov_base != nullptr) ::munmap(all_.iov_base, all_.iov_len);
  }
  const iovec& all() const { return all_; }
  std::byte* At(std::size_t offset) const {
    return static_cast<std::byte*>(all_.iov_base) + offset;
  }

 private:
  explicit Buffers(iovec all) : all_(all) {}
  iovec all_;
};

class DirectPort {
 public:
  DirectPort(BackendQueue& queue, const Buffers& buffers, const LoadSpec& spec)
      : queue_(queue), block_bytes_(spec.block_bytes) {
    for (std::uint32_t slot = 0; slot < spec.depth; ++slot) {
      segments_.push_back({buffers.At(std::size_t{slot} * block_bytes_), block_bytes_});
    }
  }
  bool Submit(std::uint32_t slot, bool is_write, std::uint64_t offset_bytes) {
    BackendRequest request{};
    request.operation = is_write ? BackendOperation::kWrite : BackendOperation::kRead;
    request.offset_bytes = offset_bytes;
    request.length_bytes = block_bytes_;
    request.segments = {&segments_[slot], 1};
    request.cookie = slot;
    return queue_.Queue(request);
  }
  void Publish() { queue_.Kick(); }
  std::size_t Poll(std::span<BackendCompletion> completions) {
    queue_.Kick();  // what the backend itself had to do again
    return queue_.Poll(completions);
  }
  void Sample(LoadSample& sample) { sample.load_cpu_ns = ThreadCpuNs(); }

 private:
  BackendQueue& queue_;
  std::uint32_t block_bytes_;
  std::vector<iovec> segments_;
};

class DirectSubject final : public Subject {
 public:
  explicit DirectSubject(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}
  std::string_view Name() const override { return kDirect; }
  Result<void> Verify() override { return Ok(); }  // it is the reference

  Result<Measured> Run(const LoadSpec& spec) override {
    const Buffers buffers = FILER_TRY(Buffers::Make(std::size_t{spec.depth} * spec.block_bytes));
    std::memset(buffers.all().iov_base, 0x5a, buffers.all().iov_len);
    auto queue = FILER_TRY(backend_->OpenQueue(spec.depth));
    queue->SetMemory({&buffers.all(), 1});
    DirectPort port(*queue, buffers, spec);
    Measured measured;
    measured.load = FILER_TRY(LoadLoop<DirectPort, BackendCompletion>(port, spec).Run());
    const auto ios = static_cast<double>(measured.load.ios);
    measured.copied_bytes_per_io = ios > 0 ? static_cast<double>(queue->CopiedBytes()) / ios : 0.0;
    return measured;
  }

 private:
  std::unique_ptr<Backend> backend_;
};

}  // namespace

Result<std::unique_ptr<Subject>> MakeDirect(const Backing& backing) {
  return std::unique_ptr<Subject>(std::make_unique<DirectSubject>(FILER_TRY(Open(backing))));
}

}  // namespace filer::bench
