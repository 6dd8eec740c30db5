// scrub_data.cc: the part of the scrub that reads data.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/crc32c.h"
#include "base/units.h"
#include "fsal/engine/fs/scrub.h"

namespace filer::engine {
namespace {

constexpr std::size_t kLeavesPerStep = 32;
constexpr std::uint64_t kDataBytesPerStep = kExtentBlocksMax * kBlockBytes;
constexpr std::uint32_t kReadBytes = 256 * 1024;
constexpr int kBufferWaitsMax = 1000;  // of a millisecond

}  // namespace

// A part of an extent.
struct Scrubber::Piece {
  std::uint64_t inode = 0;
  std::string key, value;  // of the extent, as it was
  Extent extent;
};

// Extents from the cursor on, about a step's worth; `next`: the cursor behind them, empty at the
// end.
Result<std::vector<Scrubber::Piece>> Scrubber::NextPieces(std::string& next) {
  std::vector<Piece> pieces;
  std::uint64_t bytes = 0;
  std::size_t seen = 0;
  std::string from = next;
  next.clear();
  const auto scanned =
      tree_->Scan(from, EndOfLetter('E'), [&](std::string_view key, std::string_view value) {
        if (bytes >= kDataBytesPerStep || ++seen > kExtentBlocksMax) {
          next = std::string(key);
          return false;
        }
        from = std::string(key) + '\0';
        const auto inode = KeyInteger(key, 0);
        auto extent = DecodeExtent(key, value);
        Piece piece;
        piece.inode = inode.has_value() ? inode.value() : 0;
        piece.key = key;
        piece.value = value;
        if (extent.has_value()) piece.extent = std::move(extent).value();
        const bool is_shared = piece.extent.length > 0 && piece.extent.birth <= shared_epoch_;
        if (piece.extent.is_unwritten || is_shared) return true;
        bytes += piece.extent.length * kBlockBytes;
        pieces.push_back(std::move(piece));
        return true;
      });
  if (scanned.has_value()) return pieces;
  if (pieces.empty()) return scanned.error();
  next = std::move(from);  // first these
  return pieces;
}

// The extents from the cursor on cannot be read: on behind the node that holds them.
Result<void> Scrubber::PassDamagedNodes() {
  std::string from;
  {
    const std::lock_guard lock(mutex_);
    from = cursor_.key;
  }
  while (!MustStop()) {
    const auto verified = FILER_TRY(tree_->VerifyNodes(from, kLeavesPerStep));
    const std::lock_guard lock(mutex_);
    if (!verified.damaged.empty()) {
      const std::string& high = verified.damaged.front().high;
      cursor_.key = high.empty() ? EndOfLetter('E') : std::max(high, from);
      return Ok();
    }
    if (verified.is_end || verified.next >= EndOfLetter('E')) return Ok();  // it can be read now
    from = verified.next;
  }
  return Errc::kCancelled;
}

bool Scrubber::IsCurrent(const Piece& piece) const {
  const auto value = tree_->Get(piece.key);
  return value.has_value() && value.value() == piece.value;
}

// The clients go first where they have all of the pool.
Result<BufferRef> Scrubber::AwaitBuffer(std::uint32_t bytes) {
  for (int waits = 0;; ++waits) {
    auto buffer = volume_.device.Pool().Allocate(bytes);
    if (buffer.has_value() || waits == kBufferWaitsMax) return buffer;
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, std::chrono::milliseconds(1), [&] { return must_stop_; });
    if (must_stop_) return Errc::kCancelled;
  }
}

// Reads blocks [at, at + count) of the extent and finds those that stay damaged.
Result<void> Scrubber::VerifyBlocks(const Piece& piece, const BufferRef& buffer, std::uint64_t at,
                                    std::uint64_t count) {
  const Extent& extent = piece.extent;
  Result<void> done = Ok();
  const auto read = [&](std::uint64_t first, std::uint64_t blocks) {
    const iovec segment{buffer.data(), blocks * kBlockBytes};
    BlockRequest request;
    request.operation = BlockOperation::kRead;
    request.offset_bytes = (extent.physical + first) * kBlockBytes;
    request.length_bytes = segment.iov_len;
    request.segments = std::span(&segment, 1);
    done = volume_.device.SubmitAndWait(request);
    for (std::uint64_t index = 0; done.has_value() && index < blocks; ++index) {
      const auto bytes = buffer.bytes().subspan(index * kBlockBytes, kBlockBytes);
      if (Crc32c(bytes) != extent.checksums[first + index]) return false;
    }
    return done.has_value();
  };
  const auto is_gone = [&] { return !done.has_value() && done.error() == Errc::kDeviceGone; };
  if (read(at, count)) return Ok();
  for (std::uint64_t index = at; index < at + count; ++index) {
    if (is_gone()) return done.error();
    if (!IsCurrent(piece)) return Ok();  // freed, and perhaps written anew
    if (read(index, 1)) continue;
    if (is_gone()) return done.error();
    if (!IsCurrent(piece)) return Ok();
    const std::string what = done.has_value() ? "data does not match its checksum"
                                              : "data cannot be read: " + done.error().message();
    Find({fmt::format("{}{}, file block {}", tree_text_, what, extent.file_block + index),
          fmt::format("block {}", extent.physical + index), PathOf(piece.inode)});
  }
  return Ok();
}

Result<std::uint64_t> Scrubber::VerifyPiece(const Piece& piece) {
  const Extent& extent = piece.extent;
  if (extent.length == 0) {
    if (IsCurrent(piece)) {
      Find({tree_text_ + "an extent does not decode", fmt::format("inode {}", piece.inode),
            PathOf(piece.inode)});
    }
    return 0;
  }
  const BufferRef buffer = FILER_TRY(AwaitBuffer(static_cast<std::uint32_t>(
      std::min<std::uint64_t>(kReadBytes, extent.length * kBlockBytes))));
  const std::uint64_t per_read = buffer.size() / kBlockBytes;
  for (std::uint64_t at = 0; at < extent.length; at += per_read) {
    if (MustStop()) return Errc::kCancelled;
    FILER_TRY(
        VerifyBlocks(piece, buffer, at, std::min<std::uint64_t>(per_read, extent.length - at)));
  }
  return extent.length * kBlockBytes;
}

Result<std::uint64_t> Scrubber::StepData() {
  std::string next;
  {
    const std::lock_guard lock(mutex_);
    next = cursor_.key;
  }
  const auto pieces = NextPieces(next);
  if (!pieces.has_value()) {
    if (pieces.error() == Errc::kStaleHandle) {  // deleted meanwhile
      LeaveTree();
      return 0;
    }
    if (!(pieces.error() == Errc::kCorrupt) && !(pieces.error() == Errc::kIo)) {
      return pieces.error();
    }
    FILER_TRY(PassDamagedNodes());
    return 0;
  }
  std::uint64_t bytes = 0;
  for (const Piece& piece : pieces.value()) {
    const std::uint64_t read = FILER_TRY(VerifyPiece(piece));
    bytes += read;
    const std::lock_guard lock(mutex_);
    cursor_.bytes += read;
    cursor_.key = piece.key + '\0';
  }
  if (!next.empty()) {
    const std::lock_guard lock(mutex_);
    cursor_.key = std::move(next);
    return bytes;
  }
  LeaveTree();
  return bytes;
}

}  // namespace filer::engine
