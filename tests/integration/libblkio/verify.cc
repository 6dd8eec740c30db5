// blkio-verify: libblkio's virtio-blk-vhost-user driver on a vhost-user-blk socket, all data
// compared.
//
//   blkio-verify SOCKET write SEED   writes the pattern of SEED to the whole volume, and flushes
//   blkio-verify SOCKET read SEED    reads it back and compares
//   blkio-verify SOCKET holes SEED   zeroes and discards ranges of a volume that holds the pattern,
//                                    then compares everything, those ranges and what lies around
//
// Requests of many sizes, of one piece and of three, sixteen at once, on a queue that waits for
// interrupts and on one that is polled, in turns. The pattern is that of filer-bridge-check. Built
// by libblkio.sh, because the library is not one of Debian 12. Exit codes: 0, 1 wrong data or an
// error, 2 usage.
#include <blkio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kDepth = 16;
constexpr std::uint64_t kSectorBytes = 512;
constexpr std::uint64_t kRequestBytesMax = 256 << 10;
constexpr std::array<std::uint64_t, 6> kRequestBytes = {4096,  512,    65536,
                                                        12288, 131072, kRequestBytesMax};
constexpr unsigned char kPoison = 0xee;  // so that a read that brings nothing is seen

struct Range {
  std::uint64_t offset_bytes;
  std::uint64_t length_bytes;
  bool Holds(std::uint64_t at) const {
    return at >= offset_bytes && at - offset_bytes < length_bytes;
  }
};
// Clear of each other and of the borders of requests and pages; the volume has 16 MiB at least.
constexpr std::array<Range, 2> kZeroed = {Range{(1 << 20) + 512, 300 << 10},
                                          Range{3 << 20, 1 << 20}};
constexpr Range kDiscarded = {8 << 20, 2 << 20};

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "blkio-verify: %s\n", what.c_str());
  std::exit(1);
}

void Check(int result, const char* what) {
  if (result >= 0) return;
  Fail(std::string(what) + ": " + std::strerror(-result) + ": " + blkio_get_error_msg());
}

// Any 8 bytes of the pattern depend on the seed and their place.
std::uint64_t WordAt(std::uint64_t seed, std::uint64_t offset) {
  std::uint64_t x = offset + seed * 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

void FillSector(unsigned char* sector, std::uint64_t seed, std::uint64_t offset) {
  for (std::uint64_t i = 0; i < kSectorBytes; i += 8) {
    const std::uint64_t word = WordAt(seed, offset + i);
    std::memcpy(sector + i, &word, 8);
  }
}

class Volume {
 public:
  explicit Volume(const char* socket_path) {
    Check(blkio_create("virtio-blk-vhost-user", &blkio_), "create");
    Check(blkio_set_str(blkio_, "path", socket_path), "path");
    Check(blkio_connect(blkio_), "connect");
    Check(blkio_set_int(blkio_, "num-queues", 1), "num-queues");
    Check(blkio_set_int(blkio_, "num-poll-queues", 1), "num-poll-queues");
    Check(blkio_start(blkio_), "start");
    Check(blkio_get_uint64(blkio_, "capacity", &capacity_bytes_), "capacity");
    Check(blkio_alloc_mem_region(blkio_, &memory_, kDepth * kRequestBytesMax), "allocate memory");
    Check(blkio_map_mem_region(blkio_, &memory_), "map memory");
    queues_ = {blkio_get_queue(blkio_, 0), blkio_get_poll_queue(blkio_, 0)};
  }
  Volume(const Volume&) = delete;
  Volume& operator=(const Volume&) = delete;
  ~Volume() {
    blkio_unmap_mem_region(blkio_, &memory_);
    blkio_free_mem_region(blkio_, &memory_);
    blkio_destroy(&blkio_);
  }

  std::uint64_t capacity_bytes() const { return capacity_bytes_; }

  void Write(std::uint64_t seed) {
    ForEachBatch([&](blkioq* queue, std::span<const Range> batch) {
      for (std::size_t slot = 0; slot < batch.size(); ++slot) {
        for (std::uint64_t at = 0; at < batch[slot].length_bytes; at += kSectorBytes) {
          FillSector(Buffer(slot) + at, seed, batch[slot].offset_bytes + at);
        }
      }
      Transfer(queue, batch, true);
    });
    Flush();
  }

  // `expected(offset, sector)` says whether a sector holds what it must.
  void Read(auto expected) {
    ForEachBatch([&](blkioq* queue, std::span<const Range> batch) {
      for (std::size_t slot = 0; slot < batch.size(); ++slot) {
        std::memset(Buffer(slot), kPoison, batch[slot].length_bytes);
      }
      Transfer(queue, batch, false);
      for (std::size_t slot = 0; slot < batch.size(); ++slot) {
        for (std::uint64_t at = 0; at < batch[slot].length_bytes; at += kSectorBytes) {
          const std::uint64_t offset = batch[slot].offset_bytes + at;
          if (!expected(offset, Buffer(slot) + at)) {
            Fail("wrong data in the sector at byte " + std::to_string(offset));
          }
        }
      }
    });
  }

  void Flush() {
    blkioq_flush(queues_[0], nullptr, 0);
    Complete(queues_[0], 1, "flush");
  }

  void Zero(const Range& range, std::uint32_t flags) {
    blkioq_write_zeroes(queues_[0], range.offset_bytes, range.length_bytes, nullptr, flags);
    Complete(queues_[0], 1, "write zeroes");
  }

  void Discard(const Range& range) {
    blkioq_discard(queues_[1], range.offset_bytes, range.length_bytes, nullptr, 0);
    Complete(queues_[1], 1, "discard");
  }

  // A request that must fail, and harm nothing: the data is compared afterwards.
  void ReadBeyondTheEnd() {
    blkioq_read(queues_[0], capacity_bytes_, Buffer(0), kSectorBytes, nullptr, 0);
    blkio_completion completion = {};
    Check(blkioq_do_io(queues_[0], &completion, 1, 1, nullptr), "read beyond the end");
    if (completion.ret >= 0) Fail("a read beyond the end succeeded");
  }

 private:
  unsigned char* Buffer(std::size_t slot) const {
    return static_cast<unsigned char*>(memory_.addr) + slot * kRequestBytesMax;
  }

  void ForEachBatch(auto serve) {
    std::size_t sequence = 0;
    for (std::uint64_t next = 0, batch_index = 0; next < capacity_bytes_; ++batch_index) {
      std::vector<Range> batch;
      while (batch.size() < kDepth && next < capacity_bytes_) {
        const std::uint64_t length =
            std::min(kRequestBytes[sequence++ % kRequestBytes.size()], capacity_bytes_ - next);
        batch.push_back({next, length});
        next += length;
      }
      serve(queues_[batch_index % 2], std::span<const Range>(batch));
    }
  }

  void Transfer(blkioq* queue, std::span<const Range> batch, bool is_write) {
    std::array<std::array<iovec, 3>, kDepth> pieces = {};
    for (std::size_t slot = 0; slot < batch.size(); ++slot) {
      const auto [offset, length] = batch[slot];
      unsigned char* buffer = Buffer(slot);
      // Every other request that is long enough is one of three pieces.
      if (slot % 2 == 1 && length >= 3 * kSectorBytes) {
        pieces[slot] = {iovec{buffer, kSectorBytes}, iovec{buffer + kSectorBytes, kSectorBytes},
                        iovec{buffer + 2 * kSectorBytes, length - 2 * kSectorBytes}};
        if (is_write) {
          blkioq_writev(queue, offset, pieces[slot].data(), 3, nullptr, 0);
        } else {
          blkioq_readv(queue, offset, pieces[slot].data(), 3, nullptr, 0);
        }
      } else if (is_write) {
        blkioq_write(queue, offset, buffer, length, nullptr, 0);
      } else {
        blkioq_read(queue, offset, buffer, length, nullptr, 0);
      }
    }
    Complete(queue, batch.size(), is_write ? "write" : "read");
  }

  static void Complete(blkioq* queue, std::size_t count, const char* what) {
    std::array<blkio_completion, kDepth> completions = {};
    const int wanted = static_cast<int>(count);
    const int got = blkioq_do_io(queue, completions.data(), wanted, wanted, nullptr);
    Check(got, what);
    if (got != wanted) Fail(std::string(what) + ": requests are missing");
    for (int i = 0; i < got; ++i) Check(completions[i].ret, what);
  }

  blkio* blkio_ = nullptr;
  blkio_mem_region memory_ = {};
  std::array<blkioq*, 2> queues_ = {};
  std::uint64_t capacity_bytes_ = 0;
};

bool HoldsPattern(std::uint64_t seed, std::uint64_t offset, const unsigned char* sector) {
  std::array<unsigned char, kSectorBytes> pattern;
  FillSector(pattern.data(), seed, offset);
  return std::memcmp(sector, pattern.data(), kSectorBytes) == 0;
}

bool IsZero(const unsigned char* sector) {
  return std::all_of(sector, sector + kSectorBytes, [](unsigned char byte) { return byte == 0; });
}

void MakeHoles(Volume& volume, std::uint64_t seed) {
  if (volume.capacity_bytes() < 16 << 20) Fail("the volume is too small");
  volume.Zero(kZeroed[0], BLKIO_REQ_NO_UNMAP);
  volume.Zero(kZeroed[1], 0);
  volume.Discard(kDiscarded);
  volume.ReadBeyondTheEnd();
  volume.Flush();
  volume.Read([seed](std::uint64_t offset, const unsigned char* sector) {
    for (const Range& zeroed : kZeroed) {
      if (zeroed.Holds(offset)) return IsZero(sector);
    }
    // What a discarded sector holds is not specified, but it is nobody else's data.
    if (kDiscarded.Holds(offset) && IsZero(sector)) return true;
    return HoldsPattern(seed, offset, sector);
  });
}

}  // namespace

int main(int count, char** words) {
  const std::string verb = count == 4 ? words[2] : "";
  if (verb != "write" && verb != "read" && verb != "holes") {
    std::fprintf(stderr, "blkio-verify SOCKET write|read|holes SEED\n");
    return 2;
  }
  const std::uint64_t seed = std::strtoull(words[3], nullptr, 10);
  Volume volume(words[1]);
  if (verb == "write") volume.Write(seed);
  if (verb == "holes") MakeHoles(volume, seed);
  if (verb == "read") {
    volume.Read([seed](std::uint64_t offset, const unsigned char* sector) {
      return HoldsPattern(seed, offset, sector);
    });
  }
  std::printf("%s: %llu bytes\n", verb.c_str(),
              static_cast<unsigned long long>(volume.capacity_bytes()));
  return 0;
}
