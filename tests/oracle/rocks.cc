#include "tests/oracle/rocks.h"

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include "base/assert.h"

namespace filer::engine::oracle {
namespace {

rocksdb::Slice SliceOf(std::string_view bytes) { return {bytes.data(), bytes.size()}; }
std::string_view ViewOf(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

rocksdb::Options OptionsOn(rocksdb::Env& env) {
  rocksdb::Options options;
  options.env = &env;
  options.create_if_missing = true;
  options.compression = rocksdb::kNoCompression;
  // Small, so that more than its table in memory is asked.
  options.write_buffer_size = 8 << 20;
  return options;
}

}  // namespace

struct Rocks::State {
  std::unique_ptr<rocksdb::Env> env{rocksdb::NewMemEnv(rocksdb::Env::Default())};
  std::unique_ptr<rocksdb::DB> database;
  rocksdb::WriteBatch batch;
};

Rocks::Rocks() : state_(std::make_unique<State>()) {
  rocksdb::DB* opened = nullptr;
  const auto status = rocksdb::DB::Open(OptionsOn(*state_->env), "/oracle", &opened);
  FILER_ASSERT(status.ok());
  state_->database.reset(opened);
}

Rocks::~Rocks() = default;

void Rocks::Put(std::string_view key, std::string_view value) {
  FILER_ASSERT(state_->batch.Put(SliceOf(key), SliceOf(value)).ok());
}

void Rocks::Erase(std::string_view key) { FILER_ASSERT(state_->batch.Delete(SliceOf(key)).ok()); }

void Rocks::Write() {
  rocksdb::WriteOptions options;
  options.disableWAL = true;
  FILER_ASSERT(state_->database->Write(options, &state_->batch).ok());
  state_->batch.Clear();
}

std::optional<std::string> Rocks::Get(std::string_view key) {
  std::string value;
  const auto status = state_->database->Get(rocksdb::ReadOptions(), SliceOf(key), &value);
  if (status.IsNotFound()) return std::nullopt;
  FILER_ASSERT(status.ok());
  return value;
}

void Rocks::Scan(std::string_view from,
                 const std::function<bool(std::string_view key, std::string_view value)>& visit) {
  const std::unique_ptr<rocksdb::Iterator> at(
      state_->database->NewIterator(rocksdb::ReadOptions()));
  for (at->Seek(SliceOf(from)); at->Valid(); at->Next()) {
    if (!visit(ViewOf(at->key()), ViewOf(at->value()))) return;
  }
  FILER_ASSERT(at->status().ok());
}

std::optional<std::pair<std::string, std::string>> Rocks::Last(std::string_view to) {
  const std::unique_ptr<rocksdb::Iterator> at(
      state_->database->NewIterator(rocksdb::ReadOptions()));
  if (to.empty()) {
    at->SeekToLast();
  } else {
    at->SeekForPrev(SliceOf(to));
    if (at->Valid() && ViewOf(at->key()) == to) at->Prev();
  }
  FILER_ASSERT(at->status().ok());
  if (!at->Valid()) return std::nullopt;
  return std::make_pair(at->key().ToString(), at->value().ToString());
}

}  // namespace filer::engine::oracle
