#include "tests/tidy/layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

namespace filer::tidy {
namespace {

std::string Trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t`\r");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t`\r") - first + 1));
}

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const auto end = text.find(separator);
    parts.push_back(Trim(text.substr(0, end)));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

// A row of the table. The caller has seen that the line starts with '|'.
Result<Layer> ParseRow(std::string_view line, int line_number) {
  const auto cells = Split(line, '|');  // an empty one before the first '|' and after the last
  Layer layer;
  const bool has_cells = cells.size() == 5;
  const char* end = has_cells ? cells[1].data() + cells[1].size() : nullptr;
  if (!has_cells || cells[1].empty() || cells[2].empty() ||
      std::from_chars(cells[1].data(), end, layer.level).ptr != end) {
    return Error(Errc::kInvalidArgument,
                 fmt::format("line {}: not a row of the layer table: {}", line_number, line));
  }
  layer.folder = cells[2];
  for (const std::string& also : Split(cells[3], ',')) {
    if (!also.empty()) layer.also.push_back(also);
  }
  return layer;
}

bool IsBelow(std::string_view path, std::string_view folder) {
  return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

// The layer with the longest folder that holds the path, or nullptr.
const Layer* LayerOf(const std::vector<Layer>& layers, std::string_view path) {
  const Layer* found = nullptr;
  for (const Layer& layer : layers) {
    if (!IsBelow(path, layer.folder)) continue;
    if (found == nullptr || layer.folder.size() > found->folder.size()) found = &layer;
  }
  return found;
}

bool MayInclude(const Layer& from, const Layer& to) {
  if (from.folder == to.folder || to.level < from.level) return true;
  return std::find(from.also.begin(), from.also.end(), to.folder) != from.also.end();
}

bool IsGaneshaFolder(std::string_view path) { return IsBelow(path, "fsal/ganesha"); }

// What is wrong with one include, or nothing.
std::string IncludeFault(const std::vector<Layer>& layers, const std::set<std::string_view>& tree,
                         const SourceFile& file, const Layer& from, const Include& include) {
  if (!tree.contains(include.path)) {
    // Ganesha's own headers are quoted by custom; CheckWrapperHeaders looks after them.
    if (!include.is_quoted || IsGaneshaFolder(file.path)) return {};
    return fmt::format("\"{}\" is no file of ours: write the path from the root, or use <>",
                       include.path);
  }
  const Layer* to = LayerOf(layers, include.path);
  if (to == nullptr) return fmt::format("\"{}\" lies in no folder of the table", include.path);
  if (MayInclude(from, *to)) return {};
  return fmt::format("{} (level {}) must not include {} (level {}): \"{}\"", from.folder,
                     from.level, to->folder, to->level, include.path);
}

// Whose header an include names: "DPDK", "FUSE", "Ganesha", or nothing.
std::string_view ForeignFamily(const SourceFile& file, const Include& include,
                               const std::set<std::string_view>& tree) {
  if (include.path == "rte_vhost.h") return "DPDK's vhost library";  // apart: for a peer only
  if (include.path.starts_with("rte_")) return "DPDK";
  if (include.path.starts_with("fuse")) return "FUSE";
  if (IsGaneshaFolder(file.path) && include.is_quoted && !tree.contains(include.path)) {
    return "Ganesha";
  }
  return {};
}

std::set<std::string_view> PathsOf(const std::vector<SourceFile>& files) {
  std::set<std::string_view> paths;
  for (const SourceFile& file : files) paths.insert(file.path);
  return paths;
}

// Written in pieces, so that this list is no finding of its own.
std::vector<std::string> RegistryHosts() {
  return {std::string("deb.") + "debian.org",
          std::string("security.") + "debian.org",
          std::string("snapshot.") + "debian.org",
          std::string("ftp.") + "debian.org",
          std::string("archive.") + "ubuntu.com",
          std::string("pypi.") + "org",
          std::string("pythonhosted.") + "org",
          std::string("crates.") + "io",
          std::string("registry.") + "npmjs",
          std::string("proxy.") + "golang.org",
          std::string("docker.") + "io",
          std::string("quay.") + "io",
          std::string("ghcr.") + "io"};
}

int LineOf(std::string_view text, std::size_t offset) {
  return 1 + static_cast<int>(std::count(text.begin(), text.begin() + offset, '\n'));
}

}  // namespace

Result<std::vector<Layer>> ParseLayerTable(std::string_view markdown) {
  std::vector<Layer> layers;
  bool is_in_section = false;
  int row_index = 0;  // rows 0 and 1 are the heading and the rule below it
  int line_number = 0;
  for (const std::string& line : Split(markdown, '\n')) {
    ++line_number;
    if (line.starts_with("## ")) is_in_section = line == "## Layers";
    if (!is_in_section || !line.starts_with('|') || row_index++ < 2) continue;
    Layer layer = FILER_TRY(ParseRow(line, line_number));
    const auto is_same = [&](const Layer& other) { return other.folder == layer.folder; };
    if (std::any_of(layers.begin(), layers.end(), is_same)) {
      return Error(Errc::kInvalidArgument, fmt::format("line {}: {} is in the layer table twice",
                                                       line_number, layer.folder));
    }
    layers.push_back(std::move(layer));
  }
  if (layers.empty()) {
    return Error(Errc::kInvalidArgument, "no table under the heading \"## Layers\"");
  }
  return layers;
}

std::vector<Finding> CheckLayers(const std::vector<Layer>& layers,
                                 const std::vector<SourceFile>& files) {
  std::vector<Finding> findings;
  const auto tree = PathsOf(files);
  for (const SourceFile& file : files) {
    if (!IsCode(file.path)) continue;
    const Layer* from = LayerOf(layers, file.path);
    if (from == nullptr) {
      findings.push_back({file.path, 1, "lies in no folder of the layer table of ARCHITECTURE.md"});
      continue;
    }
    for (const Include& include : file.includes) {
      std::string fault = IncludeFault(layers, tree, file, *from, include);
      if (!fault.empty()) findings.push_back({file.path, include.line, std::move(fault)});
    }
  }
  return findings;
}

std::vector<Finding> CheckWrapperHeaders(const std::vector<SourceFile>& files) {
  std::vector<Finding> findings;
  const auto tree = PathsOf(files);
  std::map<std::string_view, std::string_view> wrapper_of_family;
  for (const SourceFile& file : files) {
    for (const Include& include : file.includes) {
      const auto family = ForeignFamily(file, include, tree);
      if (family.empty() || (family == "Ganesha" && file.path.ends_with(".c"))) continue;
      if (!file.path.ends_with(".h")) {
        findings.push_back(
            {file.path, include.line,
             fmt::format("<{}>: {}'s headers enter through their wrapper header only", include.path,
                         family)});
        continue;
      }
      const std::string_view wrapper =
          wrapper_of_family.try_emplace(family, file.path).first->second;
      if (wrapper == file.path) continue;
      findings.push_back({file.path, include.line,
                          fmt::format("<{}>: {} already has a wrapper header, {}", include.path,
                                      family, wrapper)});
    }
  }
  return findings;
}

std::vector<Finding> CheckRegistryHosts(const std::vector<SourceFile>& files) {
  std::vector<Finding> findings;
  const auto hosts = RegistryHosts();
  for (const SourceFile& file : files) {
    for (const std::string& host : hosts) {
      const auto offset = file.text.find(host);
      if (offset == std::string::npos) continue;
      findings.push_back(
          {file.path, LineOf(file.text, offset),
           fmt::format("names the host {}: take it from the machine's sources", host)});
    }
  }
  return findings;
}

std::vector<Finding> LongFiles(const std::vector<SourceFile>& files, int line_count_max) {
  std::vector<Finding> findings;
  for (const SourceFile& file : files) {
    if (!IsCode(file.path) || file.line_count <= line_count_max) continue;
    findings.push_back({file.path, file.line_count,
                        fmt::format("{} lines, more than {}: look for the second idea",
                                    file.line_count, line_count_max)});
  }
  return findings;
}

}  // namespace filer::tidy
