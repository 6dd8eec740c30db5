// rocks.h: RocksDB, all in memory, as an ordered map that somebody else wrote.
// Threads: one.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace filer::engine::oracle {

class Rocks {
 public:
  Rocks();
  ~Rocks();
  Rocks(const Rocks&) = delete;
  Rocks& operator=(const Rocks&) = delete;

  // Gathered until Write, which applies all of it at once. A later change of a key wins.
  void Put(std::string_view key, std::string_view value);
  void Erase(std::string_view key);
  void Write();

  std::optional<std::string> Get(std::string_view key);
  // Keys >= `from` in order until `visit` returns false.
  void Scan(std::string_view from,
            const std::function<bool(std::string_view key, std::string_view value)>& visit);
  // The greatest key < `to` (`to` empty: of all).
  std::optional<std::pair<std::string, std::string>> Last(std::string_view to);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace filer::engine::oracle
