// layers.h: the rules that the tidy tests hold the sources against. The layer table is the one in
// ARCHITECTURE.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tests/tidy/source_tree.h"

namespace filer::tidy {

// A row of the table: a folder may include itself, folders of a smaller level, and those in `also`.
struct Layer {
  int level = 0;
  std::string folder;
  std::vector<std::string> also;
};

// The table under the heading "Layers": rows `| level | folder | may also include |`.
// Errors: kInvalidArgument with the line when there is no table, or a row is not understood, or a
// folder is there twice.
Result<std::vector<Layer>> ParseLayerTable(std::string_view markdown);

// Every include directive of every C and C++ file against the table. A file outside the table's
// folders, a path that is not written from the root, and a quoted include of a file that is not
// ours are findings too.
std::vector<Finding> CheckLayers(const std::vector<Layer>& layers,
                                 const std::vector<SourceFile>& files);

// DPDK's, FUSE's and Ganesha's C headers enter through one header each. C files of the plug-in
// (Ganesha's configuration tables are C) may include Ganesha's own.
std::vector<Finding> CheckWrapperHeaders(const std::vector<SourceFile>& files);

// Hosts of package registries and archives: their addresses come from the machine, never from us.
std::vector<Finding> CheckRegistryHosts(const std::vector<SourceFile>& files);

// Code files with more lines than the style guide wants.
std::vector<Finding> LongFiles(const std::vector<SourceFile>& files, int line_count_max);

}  // namespace filer::tidy
