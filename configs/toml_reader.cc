#include "configs/toml_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>

#include "configs/syntax.h"

namespace filer::configs {
namespace {

std::string_view KindOf(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a number with a point";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

// What the file said, safe to print: cut, and without control characters.
std::string Shown(std::string_view text) {
  std::string shown;
  for (const char c : text.substr(0, 80)) {
    shown += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return shown + (text.size() > 80 ? "..." : "");
}

}  // namespace

Place PlaceOf(const toml::source_region& region) {
  return {std::max<std::uint32_t>(1, region.begin.line),
          std::max<std::uint32_t>(1, region.begin.column)};
}

std::vector<std::string> Errors::Lines() const {
  auto sorted = errors_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> lines;
  for (const auto& [place, message] : sorted) {
    lines.push_back(fmt::format("{}:{}:{}: {}", file_name_, place.line, place.column, message));
  }
  return lines;
}

TableReader::TableReader(const toml::table& table, std::string title,
                         std::span<const std::string_view> known_keys, Errors& errors)
    : table_(table), title_(std::move(title)), errors_(errors) {
  for (const auto& [key, node] : table_) {
    const std::string_view word = key.str();
    if (std::find(known_keys.begin(), known_keys.end(), word) != known_keys.end()) continue;
    const auto nearest = Nearest(word, known_keys);
    const std::string mend = nearest ? fmt::format("did you mean \"{}\"?", *nearest)
                                     : fmt::format("known are {}", fmt::join(known_keys, ", "));
    errors_.Add(PlaceOf(key.source()),
                fmt::format("unknown key \"{}\" in {}; {}", Shown(word), title_, mend));
  }
}

Place TableReader::PlaceOfKey(std::string_view key) const {
  const toml::node* node = table_.get(key);
  return PlaceOf(node == nullptr ? table_.source() : node->source());
}

void TableReader::AddError(std::string_view key, std::string_view message) {
  errors_.Add(PlaceOfKey(key), fmt::format("{} in {}: {}", key, title_, message));
}

bool TableReader::String(std::string_view key, std::string& target) {
  const toml::node* node = table_.get(key);
  if (node == nullptr) return false;
  if (!node->is_string()) {
    AddError(key, fmt::format("is {}; write a string in quotes", KindOf(*node)));
    return false;
  }
  target = node->as_string()->get();
  return true;
}

bool TableReader::Boolean(std::string_view key, bool& target) {
  const toml::node* node = table_.get(key);
  if (node == nullptr) return false;
  if (!node->is_boolean()) {
    AddError(key, fmt::format("is {}; write true or false", KindOf(*node)));
    return false;
  }
  target = node->as_boolean()->get();
  return true;
}

bool TableReader::ReadInteger(std::string_view key, std::int64_t min, std::int64_t max,
                              std::int64_t& target) {
  const toml::node* node = table_.get(key);
  if (node == nullptr) return false;
  if (!node->is_integer()) {
    AddError(key,
             fmt::format("is {}; write a whole number from {} to {}", KindOf(*node), min, max));
    return false;
  }
  const std::int64_t value = node->as_integer()->get();
  if (value < min || value > max) {
    AddError(key, fmt::format("{} is out of range; write {} to {}", value, min, max));
    return false;
  }
  target = value;
  return true;
}

void TableReader::AddUnknownWord(std::string_view key, const std::string& text,
                                 std::span<const std::string_view> words) {
  const auto nearest = Nearest(text, words);
  AddError(key,
           fmt::format("\"{}\" is unknown; write one of {}{}", Shown(text), fmt::join(words, ", "),
                       nearest ? fmt::format(" (\"{}\"?)", *nearest) : std::string()));
}

bool TableReader::Strings(std::string_view key,
                          const std::function<void(Place place, const std::string& text)>& take) {
  const toml::node* node = table_.get(key);
  if (node == nullptr) return false;
  const toml::array* array = node->as_array();
  if (array == nullptr) {
    AddError(key,
             fmt::format("is {}; write a list of strings, e.g. [\"a\", \"b\"]", KindOf(*node)));
    return false;
  }
  for (const toml::node& element : *array) {
    const auto* text = element.as_string();
    if (text == nullptr) {
      errors_.Add(
          PlaceOf(element.source()),
          fmt::format("{} in {}: holds {}; write strings in quotes", key, title_, KindOf(element)));
      continue;
    }
    take(PlaceOf(element.source()), text->get());
  }
  return true;
}

const toml::table* TableReader::Table(std::string_view key) {
  const toml::node* node = table_.get(key);
  if (node == nullptr) return nullptr;
  if (!node->is_table()) {
    AddError(key, fmt::format("is {}; write a table, [{}]", KindOf(*node), key));
    return nullptr;
  }
  return node->as_table();
}

std::vector<const toml::table*> TableReader::Tables(std::string_view key) {
  std::vector<const toml::table*> tables;
  const toml::node* node = table_.get(key);
  if (node == nullptr) return tables;
  const toml::array* array = node->as_array();
  if (array == nullptr) {
    AddError(key, fmt::format("is {}; write it with two brackets, [[{}]]", KindOf(*node), key));
    return tables;
  }
  for (const toml::node& element : *array) {
    if (element.is_table()) {
      tables.push_back(element.as_table());
    } else {
      errors_.Add(PlaceOf(element.source()),
                  fmt::format("{}: holds {}; write tables, [[{}]]", key, KindOf(element), key));
    }
  }
  return tables;
}

bool TableReader::TextOrInteger(std::string_view key, bool octal, std::string& target) {
  const toml::node* node = table_.get(key);
  if (node == nullptr || !node->is_integer()) return String(key, target);
  const std::int64_t value = node->as_integer()->get();
  if (value < 0) {
    AddError(key, "is negative");
    return false;
  }
  target = octal ? fmt::format("{:o}", value) : fmt::format("{}", value);
  return true;
}

}  // namespace filer::configs
