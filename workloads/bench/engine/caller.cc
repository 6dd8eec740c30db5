#include "workloads/bench/engine/caller.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace filer::bench {
namespace {

constexpr std::uint64_t kTransferBytes = 1 << 20;
constexpr std::uint64_t kCommitBytes = 16 << 20;
constexpr std::uint64_t kStreamBytes = 64 << 20;  // written by all callers together
constexpr std::size_t kRenamedFiles = 16;
constexpr std::size_t kMixedFilesMax = 64;
constexpr std::uint32_t kMakers = 16;

// Callers may be many: what they make at once shares flushes, as in any load.
Result<void> TouchAll(FileSystem& files, FileNode directory,
                      const std::vector<std::string>& names) {
  std::vector<Result<void>> results(kMakers, Ok());
  std::vector<std::thread> makers;
  for (std::uint32_t maker = 0; maker < kMakers; ++maker) {
    makers.emplace_back([&, maker] {
      for (std::size_t i = maker; i < names.size() && results[maker].has_value(); i += kMakers) {
        results[maker] = files.Touch(directory, names[i]);
      }
    });
  }
  for (std::thread& maker : makers) maker.join();
  for (Result<void>& result : results) FILER_TRY(std::move(result));
  return Ok();
}

Result<void> FillFile(FileSystem& files, FileNode file, std::uint64_t size_bytes) {
  const std::unique_ptr<std::byte, decltype(&std::free)> memory(
      static_cast<std::byte*>(std::aligned_alloc(4096, kTransferBytes)), &std::free);
  if (!memory) return Errc::kNoMemory;
  std::memset(memory.get(), 0x3c, kTransferBytes);
  for (std::uint64_t at = 0; at < size_bytes; at += kTransferBytes) {
    FILER_TRY(files.Write(file, at, {memory.get(), kTransferBytes}));
    if ((at + kTransferBytes) % kCommitBytes == 0) FILER_TRY(files.Commit(file));
  }
  return files.Commit(file);
}

}  // namespace

Result<Fixture> Fixture::Make(FileSystem& files, const std::vector<FileCell>& cells,
                              const FixtureSizes& sizes) {
  Fixture fixture;
  fixture.sizes = sizes;
  const auto any = [&](bool (*needs)(FileWorkload)) {
    return std::any_of(cells.begin(), cells.end(),
                       [&](const FileCell& cell) { return needs(cell.workload); });
  };
  fixture.has_names = any(&NeedsNames);
  fixture.has_data = any(&NeedsData);
  if (fixture.has_names) {
    fixture.names = FILER_TRY(files.MakeDirectory("names"));
    for (std::uint32_t i = 0; i < sizes.names; ++i) {
      fixture.name_list.push_back(fmt::format("entry-{:06}", i));
    }
    FILER_TRY(TouchAll(files, fixture.names, fixture.name_list));
  }
  if (fixture.has_data) {
    fixture.data_directory = FILER_TRY(files.MakeDirectory("data"));
    fixture.data = FILER_TRY(files.MakeFile(fixture.data_directory, "data"));
    FILER_TRY(FillFile(files, fixture.data, sizes.data_bytes));
  }
  FILER_TRY(files.SyncAll());
  return fixture;
}

void Fixture::Close(FileSystem& files) const {
  if (has_names) files.Close(names);
  if (!has_data) return;
  files.Close(data);
  files.Close(data_directory);
}

void Caller::Free::operator()(std::byte* memory) const { std::free(memory); }

Caller::Caller(FileSystem& files, const Fixture& fixture, const FileCell& cell,
               std::uint32_t number, std::uint64_t serial)
    : files_(files),
      fixture_(fixture),
      cell_(cell),
      number_(number),
      directory_name_(fmt::format("{}-{}-{}", FileWorkloadName(cell.workload), serial, number)),
      blocks_(serial * 64 + number + 1, std::max<std::uint64_t>(fixture.sizes.data_bytes, 4096),
              4096),
      names_(serial * 64 + number + 7, std::max<std::uint32_t>(fixture.sizes.names, 1), 1),
      buffer_(static_cast<std::byte*>(std::aligned_alloc(4096, kTransferBytes))) {}

Caller::~Caller() {
  if (has_own_file_) files_.Close(own_file_);
}

Result<void> Caller::Prepare(std::uint64_t until_ticks) {
  if (!buffer_) return Errc::kNoMemory;
  std::memset(buffer_.get(), 0x5a, kTransferBytes);
  const TickClock& clock = TickClock::Get();
  switch (cell_.workload) {
    case FileWorkload::kCreate:
    case FileWorkload::kUnlink:
    case FileWorkload::kRename:
    case FileWorkload::kMixed:
    case FileWorkload::kWriteSequential:
      directory_ = FILER_TRY(files_.MakeDirectory(directory_name_));
      has_directory_ = true;
      break;
    default:
      break;
  }
  if (cell_.workload == FileWorkload::kUnlink) {
    do {
      FILER_TRY(Create());
    } while (clock.Now() < until_ticks);
  }
  if (cell_.workload == FileWorkload::kRename || cell_.workload == FileWorkload::kMixed) {
    for (std::size_t i = 0; i < kRenamedFiles; ++i) FILER_TRY(Create());
  }
  // In turn, each from a place of its own.
  stream_bytes_ = cell_.workload == FileWorkload::kWriteSequential ? kStreamBytes / cell_.threads
                                                                   : fixture_.sizes.data_bytes;
  stream_at_ = fixture_.sizes.data_bytes / cell_.threads * number_ / kTransferBytes *
               kTransferBytes % std::max<std::uint64_t>(stream_bytes_, 1);
  if (cell_.workload == FileWorkload::kWriteSequential) {
    own_file_ = FILER_TRY(files_.MakeFile(directory_, "stream"));
    has_own_file_ = true;
    made_.emplace_back("stream");
    stream_at_ = 0;
    FILER_TRY(FillFile(files_, own_file_, stream_bytes_));
  }
  bytes_ = 0;
  return Ok();
}

Result<bool> Caller::Step() {
  switch (cell_.workload) {
    case FileWorkload::kCreate:
      FILER_TRY(Create());
      break;
    case FileWorkload::kLookup:
      FILER_TRY(files_.Lookup(fixture_.names, fixture_.name_list[names_.Next()]));
      break;
    case FileWorkload::kStat:
      FILER_TRY(Stat());
      break;
    case FileWorkload::kReaddir:
      entries_ += FILER_TRY(files_.ReadDirectory(fixture_.names));
      break;
    case FileWorkload::kReadSequential:
      FILER_TRY(ReadSequential());
      break;
    case FileWorkload::kReadRandom:
      FILER_TRY(ReadRandom());
      break;
    case FileWorkload::kWriteSequential:
      FILER_TRY(WriteSequential());
      break;
    case FileWorkload::kOverwrite:
      FILER_TRY(Overwrite());
      break;
    case FileWorkload::kUnlink:
      if (made_.empty()) return false;
      FILER_TRY(Unlink());
      break;
    case FileWorkload::kRename:
      FILER_TRY(Rename());
      break;
    case FileWorkload::kMixed:
      FILER_TRY(Mixed());
      break;
  }
  return true;
}

Result<void> Caller::Create() {
  std::string name = fmt::format("file-{:08}", made_count_++);
  FILER_TRY(files_.CreateDurable(directory_, name, {buffer_.get(), 4096}));
  made_.push_back(std::move(name));
  bytes_ += 4096;
  return Ok();
}

Result<void> Caller::Unlink() {
  FILER_TRY(files_.RemoveDurable(directory_, made_.back()));
  made_.pop_back();
  return Ok();
}

Result<void> Caller::Rename() {
  std::string& name = made_[renamed_count_ % made_.size()];
  std::string to = fmt::format("moved-{:08}", renamed_count_++);
  FILER_TRY(files_.RenameDurable(directory_, name, to));
  name = std::move(to);
  return Ok();
}

Result<void> Caller::Stat() {
  return files_.Stat(fixture_.names, fixture_.name_list[names_.Next()]);
}

Result<void> Caller::ReadRandom() {
  bytes_ += 4096;
  return files_.Read(fixture_.data, blocks_.Next(), {buffer_.get(), 4096});
}

Result<void> Caller::Overwrite() {
  bytes_ += 4096;
  return files_.WriteDurable(fixture_.data, blocks_.Next(), {buffer_.get(), 4096});
}

Result<void> Caller::ReadSequential() {
  FILER_TRY(files_.Read(fixture_.data, stream_at_, {buffer_.get(), kTransferBytes}));
  stream_at_ = (stream_at_ + kTransferBytes) % stream_bytes_;
  bytes_ += kTransferBytes;
  return Ok();
}

Result<void> Caller::WriteSequential() {
  FILER_TRY(files_.Write(own_file_, stream_at_, {buffer_.get(), kTransferBytes}));
  stream_at_ = (stream_at_ + kTransferBytes) % stream_bytes_;
  bytes_ += kTransferBytes;
  uncommitted_bytes_ += kTransferBytes;
  if (uncommitted_bytes_ < kCommitBytes / cell_.threads) return Ok();
  uncommitted_bytes_ = 0;
  return files_.Commit(own_file_);
}

Result<void> Caller::Mixed() {
  // Spread, so that callers that began together do not all write at once.
  switch ((turn_++ + number_ * 5) % 16) {
    case 2:
    case 7:
    case 12:
      return Overwrite();
    case 4:
      if (made_.size() >= kMixedFilesMax) return Unlink();
      return Create();
    case 9:
      return Rename();
    case 14:
      return Unlink();
    case 1:
    case 5:
    case 10:
    case 15:
      return Stat();
    default:
      return ReadRandom();
  }
}

Result<void> Caller::CleanUp() {
  if (has_own_file_) files_.Close(own_file_);
  has_own_file_ = false;
  while (!made_.empty()) FILER_TRY(Unlink());
  if (has_directory_) FILER_TRY(files_.RemoveDirectory(directory_name_, directory_));
  has_directory_ = false;
  return Ok();
}

}  // namespace filer::bench
