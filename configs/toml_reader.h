// toml_reader.h: typed, strict access to one TOML table, collecting every error with its place.
//
// A TableReader knows its table's keys; the constructor reports those that are unknown. Each method
// leaves its target alone when the key is absent, and reports when it has the wrong type or range.
// Threads: one at a time; the table and the Errors must outlive the reader.
#pragma once

#include <toml++/toml.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace filer::configs {

struct Place {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
  friend auto operator<=>(const Place&, const Place&) = default;
};

// All errors of one file.
class Errors {
 public:
  explicit Errors(std::string file_name) : file_name_(std::move(file_name)) {}
  void Add(Place place, std::string message) { errors_.emplace_back(place, std::move(message)); }
  bool empty() const { return errors_.empty(); }
  // `file:line:column: message` in file order.
  std::vector<std::string> Lines() const;

 private:
  std::string file_name_;
  std::vector<std::pair<Place, std::string>> errors_;
};

Place PlaceOf(const toml::source_region& region);

class TableReader {
 public:
  // `title` is how messages name the table, e.g. "[nfs]".
  TableReader(const toml::table& table, std::string title,
              std::span<const std::string_view> known_keys, Errors& errors);

  bool Has(std::string_view key) const { return table_.contains(key); }
  Place place() const { return PlaceOf(table_.source()); }
  // Of the key's value, or of the table if the key is absent.
  Place PlaceOfKey(std::string_view key) const;
  void AddError(std::string_view key, std::string_view message);

  bool String(std::string_view key, std::string& target);
  bool Boolean(std::string_view key, bool& target);
  template <typename Number>
  bool Integer(std::string_view key, std::int64_t min, std::int64_t max, Number& target) {
    std::int64_t value = 0;
    if (!ReadInteger(key, min, max, value)) return false;
    target = static_cast<Number>(value);
    return true;
  }
  // One of the given words; ToText gives the word of a value.
  template <typename Enum>
  bool Word(std::string_view key, std::initializer_list<Enum> values, Enum& target) {
    std::string text;
    if (!String(key, text)) return false;
    std::vector<std::string_view> words;
    for (const Enum value : values) words.push_back(ToText(value));
    const auto found = std::find(words.begin(), words.end(), text);
    if (found == words.end()) {
      AddUnknownWord(key, text, words);
      return false;
    }
    target = *(values.begin() + (found - words.begin()));
    return true;
  }
  // Calls `take` for each string of the list, with the place for its messages.
  bool Strings(std::string_view key,
               const std::function<void(Place place, const std::string& text)>& take);
  // The table, or nullptr if absent.
  const toml::table* Table(std::string_view key);
  // The tables of [[key]]; empty if absent.
  std::vector<const toml::table*> Tables(std::string_view key);
  // A string or an integer, as the text that was meant (an integer in octal if `octal`).
  bool TextOrInteger(std::string_view key, bool octal, std::string& target);

 private:
  bool ReadInteger(std::string_view key, std::int64_t min, std::int64_t max, std::int64_t& target);
  void AddUnknownWord(std::string_view key, const std::string& text,
                      std::span<const std::string_view> words);

  const toml::table& table_;
  std::string title_;
  Errors& errors_;
};

}  // namespace filer::configs
